//! The HTTP calls to one opencode server, each with a deadline. Knows no turn and retries nothing.

use super::ids::PromptIds;
use super::wire::{Message, PermissionAsked, QuestionAsked, Session, Statuses};
use crate::backend::BackendError;
use crate::domain::failure::FailureReason;
use crate::domain::text;
use rand::RngExt;
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::fmt;
use std::time::Duration;

/// For calls that answer from memory or disk.
pub(super) const CALL_DEADLINE: Duration = Duration::from_secs(20);
/// For calls that may start an instance: a plugin's npm install was seen to hold `POST /session` for minutes.
const START_DEADLINE: Duration = Duration::from_secs(60);
/// For the head of the event stream.
const STREAM_DEADLINE: Duration = Duration::from_secs(10);
/// How much of an unexpected answer is told, in bytes.
const BODY_SHOWN_BYTES: usize = 500;

/// 256 random bits; without them anyone on the machine could run commands through the server.
#[derive(Clone)]
pub(super) struct Password(String);

impl Password {
    /// A new one from the operating system's randomness (by way of a generator that it seeds). It begins as our tokens do: the
    /// agent can read it, and should it print it, it is known by that and taken out.
    pub fn random() -> Self {
        let bits: [u8; 32] = rand::rng().random();
        Self(
            std::iter::once("agp_".to_owned()).chain(bits.iter().map(|byte| format!("{byte:02x}"))).collect(),
        )
    }

    /// For the environment of the server, and for nothing else.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(…)")
    }
}

/// What a call can come to.
#[derive(Debug, thiserror::Error)]
pub(super) enum CallError {
    /// No answer, or none in time. Whether the server acted is unknown.
    #[error("opencode did not answer {what}: {cause}")]
    Unanswered { what: &'static str, cause: String },
    /// Another status than success.
    #[error("opencode answered {what} with {status}: {body}")]
    Status { what: &'static str, status: StatusCode, body: String },
    /// Success, in a shape that we cannot read.
    #[error("opencode answered {what} in a shape that is not supported: {cause}")]
    Shape { what: &'static str, cause: String },
}

impl CallError {
    /// True when what was asked for does not exist.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Status { status, .. } if *status == StatusCode::NOT_FOUND)
    }
}

impl From<CallError> for BackendError {
    fn from(error: CallError) -> Self {
        match &error {
            CallError::Unanswered { .. } => Self::Lost(error.to_string()),
            CallError::Shape { .. } => Self::Incompatible(error.to_string()),
            CallError::Status { status, .. } if status.is_client_error() => {
                Self::turn(FailureReason::BadRequest, error.to_string())
            }
            CallError::Status { .. } => Self::turn(FailureReason::AgentCrashed, error.to_string()),
        }
    }
}

/// What is sent with a prompt.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Choices {
    /// (provider, model).
    pub model: Option<(String, String)>,
    /// opencode's word for a mode.
    pub agent: Option<String>,
    /// A model's level of thinking.
    pub variant: Option<String>,
}

/// What `GET /global/health` says.
#[derive(Debug, Deserialize)]
pub(super) struct Health {
    /// It serves.
    #[serde(default)]
    pub healthy: bool,
    /// `1.18.33`.
    #[serde(default)]
    pub version: String,
}

/// A way to one server. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Client {
    http: reqwest::Client,
    base: String,
    password: Password,
}

impl Client {
    /// A client of the server at `http://127.0.0.1:port`. A proxy of the environment is not for it.
    pub fn new(port: u16, password: Password) -> Result<Self, reqwest::Error> {
        let http = reqwest::Client::builder().no_proxy().connect_timeout(STREAM_DEADLINE).build()?;
        Ok(Self { http, base: format!("http://127.0.0.1:{port}"), password })
    }

    pub async fn health(&self, deadline: Duration) -> Result<Health, CallError> {
        let request = self.request(Method::GET, "/global/health");
        json_of("health", ask("health", request, deadline).await?).await
    }

    /// The status of the health call when no password is given: must be 401.
    pub async fn health_without_password(&self) -> Result<StatusCode, CallError> {
        let request = self.http.get(format!("{}/global/health", self.base)).timeout(CALL_DEADLINE);
        request.send().await.map(|answer| answer.status()).map_err(|error| unanswered("health", &error))
    }

    /// Opens the event stream of all directories; only its head has a deadline.
    pub async fn events(&self) -> Result<Response, CallError> {
        let what = "the event stream";
        let request = self.request(Method::GET, "/global/event").send();
        let answer = tokio::time::timeout(STREAM_DEADLINE, request)
            .await
            .map_err(|_| CallError::Unanswered { what, cause: "no answer in 10 s".to_owned() })?
            .map_err(|error| unanswered(what, &error))?;
        succeeded(what, answer).await
    }

    pub async fn create_session(&self, directory: &str, title: &str) -> Result<Session, CallError> {
        let request = self.at(Method::POST, "/session", directory).json(&json!({ "title": title }));
        json_of("a new session", ask("a new session", request, START_DEADLINE).await?).await
    }

    pub async fn session(&self, directory: &str, id: &str) -> Result<Session, CallError> {
        let request = self.at(Method::GET, &format!("/session/{id}"), directory);
        json_of("the session", ask("the session", request, START_DEADLINE).await?).await
    }

    /// Makes a session that ends before that message.
    pub async fn fork(&self, directory: &str, id: &str, before: &str) -> Result<Session, CallError> {
        let request = self.at(Method::POST, &format!("/session/{id}/fork"), directory);
        let request = request.json(&json!({ "messageID": before }));
        json_of("the fork", ask("the fork", request, CALL_DEADLINE).await?).await
    }

    /// Takes the session out of the lists; nothing of it is deleted.
    pub async fn archive(&self, directory: &str, id: &str, now_ms: u64) -> Result<(), CallError> {
        let request = self.at(Method::PATCH, &format!("/session/{id}"), directory);
        let request = request.json(&json!({ "time": { "archived": now_ms } }));
        ask("the archiving", request, CALL_DEADLINE).await.map(drop)
    }

    pub async fn statuses(&self, directory: &str) -> Result<Statuses, CallError> {
        let request = self.at(Method::GET, "/session/status", directory);
        json_of("the status", ask("the status", request, CALL_DEADLINE).await?).await
    }

    pub async fn messages(&self, directory: &str, id: &str) -> Result<Vec<Message>, CallError> {
        let request = self.at(Method::GET, &format!("/session/{id}/message"), directory);
        json_of("the messages", ask("the messages", request, CALL_DEADLINE).await?).await
    }

    pub async fn children(&self, directory: &str, id: &str) -> Result<Vec<Session>, CallError> {
        let request = self.at(Method::GET, &format!("/session/{id}/children"), directory);
        json_of("the children", ask("the children", request, CALL_DEADLINE).await?).await
    }

    /// Open requests of all sessions in the directory.
    pub async fn permissions(&self, directory: &str) -> Result<Vec<PermissionAsked>, CallError> {
        let request = self.at(Method::GET, "/permission", directory);
        let all: Vec<Value> =
            json_of("permissions", ask("permissions", request, CALL_DEADLINE).await?).await?;
        Ok(all.into_iter().filter_map(PermissionAsked::read).collect())
    }

    /// Open questions of all sessions in the directory.
    pub async fn questions(&self, directory: &str) -> Result<Vec<QuestionAsked>, CallError> {
        let request = self.at(Method::GET, "/question", directory);
        let all: Vec<Value> = json_of("questions", ask("questions", request, CALL_DEADLINE).await?).await?;
        Ok(all.into_iter().filter_map(QuestionAsked::read).collect())
    }

    pub async fn providers(&self, directory: &str) -> Result<Value, CallError> {
        let request = self.at(Method::GET, "/config/providers", directory);
        json_of("the models", ask("the models", request, START_DEADLINE).await?).await
    }

    pub async fn agents(&self, directory: &str) -> Result<Value, CallError> {
        let request = self.at(Method::GET, "/agent", directory);
        json_of("the modes", ask("the modes", request, START_DEADLINE).await?).await
    }

    pub async fn config(&self, directory: &str) -> Result<Value, CallError> {
        let request = self.at(Method::GET, "/config", directory);
        json_of("the configuration", ask("the configuration", request, START_DEADLINE).await?).await
    }

    /// Makes opencode read the directory's files.
    pub async fn list_files(&self, directory: &str) -> Result<(), CallError> {
        let request = self.at(Method::GET, "/find/file", directory).query(&[("query", ".")]);
        ask("the files", request, START_DEADLINE).await.map(drop)
    }

    /// Hands a prompt over. May be repeated with the same ids.
    pub async fn prompt(
        &self,
        directory: &str,
        session: &str,
        ids: &PromptIds,
        text: &str,
        choices: &Choices,
    ) -> Result<(), CallError> {
        let part = json!({ "id": ids.part, "type": "text", "text": text });
        let mut body = json!({ "messageID": ids.message, "parts": [part] });
        if let Some((provider, model)) = &choices.model {
            body["model"] = json!({ "providerID": provider, "modelID": model });
        }
        if let Some(agent) = &choices.agent {
            body["agent"] = json!(agent);
        }
        if let Some(variant) = &choices.variant {
            body["variant"] = json!(variant);
        }
        let request =
            self.at(Method::POST, &format!("/session/{session}/prompt_async"), directory).json(&body);
        ask("the prompt", request, START_DEADLINE).await.map(drop)
    }

    pub async fn abort(&self, directory: &str, session: &str) -> Result<(), CallError> {
        let request = self.at(Method::POST, &format!("/session/{session}/abort"), directory);
        ask("the abort", request, CALL_DEADLINE).await.map(drop)
    }

    /// Answers a permission request or a question: `path` is `permission/{id}/reply` or `question/{id}/reply|reject`.
    pub async fn answer(&self, directory: &str, path: &str, body: &Value) -> Result<(), CallError> {
        let request = self.at(Method::POST, &format!("/{path}"), directory).json(body);
        ask("the answer", request, CALL_DEADLINE).await.map(drop)
    }

    /// Lets go of everything that the server holds for a directory (45 MB, language servers).
    pub async fn dispose_instance(&self, directory: &str) -> Result<(), CallError> {
        let request = self.at(Method::POST, "/instance/dispose", directory);
        ask("the disposal", request, CALL_DEADLINE).await.map(drop)
    }

    fn at(&self, method: Method, path: &str, directory: &str) -> RequestBuilder {
        self.request(method, path).query(&[("directory", directory)])
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.base));
        request.basic_auth("opencode", Some(self.password.reveal()))
    }
}

async fn ask(what: &'static str, request: RequestBuilder, deadline: Duration) -> Result<Response, CallError> {
    let answer = request.timeout(deadline).send().await.map_err(|error| unanswered(what, &error))?;
    succeeded(what, answer).await
}

async fn succeeded(what: &'static str, answer: Response) -> Result<Response, CallError> {
    let status = answer.status();
    if status.is_success() {
        return Ok(answer);
    }
    let body = answer.text().await.unwrap_or_default();
    Err(CallError::Status {
        what,
        status,
        body: text::cut_between_words(text::clean(body), BODY_SHOWN_BYTES),
    })
}

async fn json_of<T: DeserializeOwned>(what: &'static str, answer: Response) -> Result<T, CallError> {
    let body = answer.bytes().await.map_err(|error| unanswered(what, &error))?;
    serde_json::from_slice(&body).map_err(|error| CallError::Shape { what, cause: error.to_string() })
}

/// reqwest's own words hide the cause in its sources.
fn unanswered(what: &'static str, error: &reqwest::Error) -> CallError {
    let mut cause = if error.is_timeout() { "no answer in time".to_owned() } else { error.to_string() };
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        cause = format!("{cause}: {inner}");
        source = inner.source();
    }
    CallError::Unanswered { what, cause }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_has_256_bits_and_is_never_printed() {
        let password = Password::random();
        assert_eq!(password.reveal().len(), 4 + 64);
        assert_ne!(password.reveal(), Password::random().reveal());
        let client = Client::new(1, password.clone()).unwrap();
        assert!(!format!("{client:?}").contains(password.reveal()));
    }
}
