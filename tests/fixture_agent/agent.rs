//! What the agent answers to each request. A prompt is played by turn.rs; nothing here waits for a client.

use crate::faults::Faults;
use crate::misdeeds;
use crate::session::{Session, locked};
use crate::store::{Conversation, Store};
use crate::turn::{self, Turn};
use crate::wire::{Ears, Out};
use agent_client_protocol::schema::ProtocolVersion;
use agent_client_protocol::v1::schema::{
    AgentCapabilities, AuthMethod, AuthMethodAgent, ContentChunk, Implementation, InitializeResponse,
    ListSessionsResponse, LoadSessionRequest, LoadSessionResponse, McpServer, NewSessionRequest,
    NewSessionResponse, PromptRequest, ResumeSessionRequest, ResumeSessionResponse, SessionCapabilities,
    SessionCloseCapabilities, SessionInfo, SessionListCapabilities, SessionResumeCapabilities, SessionUpdate,
    SetSessionConfigOptionRequest, SetSessionConfigOptionResponse, SetSessionModeRequest,
};
use agent_client_protocol::{Client, ConnectionTo, Dispatch, Error, Responder};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub struct Agent {
    pub out: Out,
    pub ears: Ears,
    pub faults: Faults,
    pub store: Store,
    authenticated: AtomicBool,
    sessions: Mutex<HashMap<String, Arc<Session>>>,
}

/// Ids of conversations.
const ID_PREFIX: &str = "fix_";
/// Until the commands are told.
const COMMANDS_MS: u64 = 20;

impl Agent {
    pub fn new(out: Out, ears: Ears, faults: Faults) -> Self {
        let store = Store::at_home();
        Self { out, ears, faults, store, authenticated: AtomicBool::new(false), sessions: Mutex::default() }
    }

    pub fn hear(self: &Arc<Self>, message: Dispatch, client: &ConnectionTo<Client>) -> Result<(), Error> {
        match message {
            Dispatch::Request(request, responder) => {
                let (method, params) = request.into_parts();
                self.request(&method, params, responder, client);
            }
            Dispatch::Notification(notification) => {
                let (method, params) = notification.into_parts();
                if method == "session/cancel"
                    && let Some(session) = params["sessionId"].as_str().and_then(|id| self.session(id))
                {
                    session.cancel();
                }
            }
            Dispatch::Response(result, router) => router.route_with_result(result)?,
        }
        Ok(())
    }

    fn request(
        self: &Arc<Self>,
        method: &str,
        params: Value,
        responder: Responder<Value>,
        client: &ConnectionTo<Client>,
    ) {
        let step = step(method).to_owned();
        if self.faults.has(&format!("hang_{step}")) {
            // Dropped, it would be answered with an error.
            return std::mem::forget(responder);
        }
        if let Some(code) = self.faults.number(&format!("exit_{step}")) {
            misdeeds::exit(code);
        }
        if self.faults.has(&format!("error_{step}")) {
            return answer(
                responder,
                Err(Error::new(-32603, "Internal error").data(json!("scripted failure"))),
            );
        }
        if method == "session/prompt" {
            return self.prompt(params, responder, client);
        }
        let (agent, method) = (self.clone(), method.to_owned());
        tokio::spawn(async move {
            if let Some(wait) = agent.faults.number(&format!("slow_{step}")) {
                tokio::time::sleep(Duration::from_millis(wait)).await;
            }
            answer(responder, agent.simple(&method, params));
        });
    }

    /// A request that is answered at once.
    fn simple(self: &Arc<Self>, method: &str, params: Value) -> Result<Value, Error> {
        match method {
            "initialize" => Ok(self.initialize()),
            "authenticate" => {
                self.authenticated.store(true, Ordering::SeqCst);
                Ok(json!({}))
            }
            "session/new" => self.new_session(parsed(params)?),
            "session/load" => self.load(parsed(params)?),
            "session/resume" => self.resume(parsed(params)?),
            "session/list" if !self.faults.has("no_list") => Ok(self.list()),
            "session/close" if !self.faults.has("no_close") => {
                let id = params["sessionId"].as_str().unwrap_or_default();
                locked(&self.sessions).remove(id).map(|_| json!({})).ok_or_else(|| not_found(id))
            }
            "session/set_mode" if !self.faults.has("no_modes") => self.set_mode(&parsed(params)?),
            "session/set_config_option" if self.offers_options() => self.set_option(&parsed(params)?),
            "session/set_model" if self.faults.has("legacy_models") => self.set_model(&params),
            _ => Err(no_method(method)),
        }
    }

    fn initialize(&self) -> Value {
        let offered = |word| !self.faults.has(word);
        let sessions = SessionCapabilities::new()
            .resume(offered("no_resume").then(SessionResumeCapabilities::new))
            .close(offered("no_close").then(SessionCloseCapabilities::new))
            .list(offered("no_list").then(SessionListCapabilities::new));
        let capabilities =
            AgentCapabilities::new().load_session(offered("no_load")).session_capabilities(sessions);
        let response = InitializeResponse::new(ProtocolVersion::V1)
            .agent_capabilities(capabilities)
            .auth_methods(vec![AuthMethod::Agent(AuthMethodAgent::new("login", "Log in"))])
            .agent_info(Implementation::new("fixture-agent", env!("CARGO_PKG_VERSION")));
        let mut value = told(response);
        if self.faults.has("v2") {
            value["protocolVersion"] = json!(2);
        }
        value
    }

    fn new_session(self: &Arc<Self>, request: NewSessionRequest) -> Result<Value, Error> {
        self.needs_no_login()?;
        let id = format!("{ID_PREFIX}{}", uuid::Uuid::now_v7());
        let conversation = Conversation {
            id: id.clone(),
            cwd: request.cwd,
            title: None,
            always_allowed: BTreeSet::new(),
            turns: Vec::new(),
        };
        self.store.save(&conversation).map_err(|error| Error::new(-32603, error.to_string()))?;
        let session = self.open(conversation, &request.mcp_servers);
        let mut response = told(NewSessionResponse::new(id));
        self.tell_choices(&session, &mut response);
        Ok(response)
    }

    fn load(self: &Arc<Self>, request: LoadSessionRequest) -> Result<Value, Error> {
        let session = self.open_again("load", &request.session_id.0, request.cwd, &request.mcp_servers)?;
        let turns = locked(&session.conversation).turns.clone();
        for turn in turns {
            let said = |text: String| ContentChunk::new(text.into());
            self.out.update(&session.id, SessionUpdate::UserMessageChunk(said(turn.prompt)));
            if let Some(answer) = turn.answer {
                self.out.update(&session.id, SessionUpdate::AgentMessageChunk(said(answer)));
            }
        }
        misdeeds::replay(&self.out, &session.id, self.faults.number("replay_mb").unwrap_or(0));
        let mut response = told(LoadSessionResponse::new());
        self.tell_choices(&session, &mut response);
        Ok(response)
    }

    fn resume(self: &Arc<Self>, request: ResumeSessionRequest) -> Result<Value, Error> {
        let session = self.open_again("resume", &request.session_id.0, request.cwd, &request.mcp_servers)?;
        let mut response = told(ResumeSessionResponse::new());
        self.tell_choices(&session, &mut response);
        Ok(response)
    }

    /// A stored conversation as an open session, with settings at their defaults.
    fn open_again(
        self: &Arc<Self>,
        how: &str,
        id: &str,
        cwd: PathBuf,
        mcp_servers: &[McpServer],
    ) -> Result<Arc<Session>, Error> {
        if ["no", "lie"].iter().any(|word| self.faults.has(&format!("{word}_{how}"))) {
            return Err(no_method(&format!("session/{how}")));
        }
        self.needs_no_login()?;
        if self.faults.has(&format!("fail_{how}")) {
            let details = "No previous sessions found for this project.";
            return Err(Error::new(-32603, "Internal error").data(json!({"details": details})));
        }
        let found = self.store.load(id).filter(|conversation| conversation.cwd == cwd);
        let conversation = found.ok_or_else(|| not_found(id))?;
        Ok(self.open(conversation, mcp_servers))
    }

    fn open(self: &Arc<Self>, conversation: Conversation, mcp_servers: &[McpServer]) -> Arc<Session> {
        let names = mcp_servers.iter().map(|server| told(server)["name"].as_str().unwrap_or("?").to_owned());
        let session = Arc::new(Session::new(conversation, names.collect()));
        locked(&self.sessions).insert(session.id.clone(), session.clone());
        let (agent, id) = (self.clone(), session.id.clone());
        let wait = self.faults.number("commands_ms").unwrap_or(COMMANDS_MS);
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(wait)).await;
            agent.out.update(&id, turn::commands());
        });
        session
    }

    fn tell_choices(&self, session: &Session, response: &mut Value) {
        let settings = locked(&session.settings);
        if !self.faults.has("no_modes") {
            response["modes"] = told(settings.modes());
        }
        if self.faults.has("legacy_models") {
            response["models"] = settings.legacy_models();
        } else if self.offers_options() {
            response["configOptions"] = told(settings.options());
        }
    }

    fn list(&self) -> Value {
        let infos = self.store.all().into_iter().map(|conversation| {
            SessionInfo::new(conversation.id, conversation.cwd).title(conversation.title)
        });
        told(ListSessionsResponse::new(infos.collect()))
    }

    fn set_mode(&self, request: &SetSessionModeRequest) -> Result<Value, Error> {
        let session = self.open_session(&request.session_id.0)?;
        let known = locked(&session.settings).set_mode(&request.mode_id.0);
        if known { Ok(json!({})) } else { Err(bad_params("unknown mode")) }
    }

    fn set_option(&self, request: &SetSessionConfigOptionRequest) -> Result<Value, Error> {
        let session = self.open_session(&request.session_id.0)?;
        let value = told(&request.value)["value"].as_str().unwrap_or_default().to_owned();
        let mut settings = locked(&session.settings);
        if !settings.set(&request.config_id.0, &value) {
            return Err(bad_params("unknown option or value"));
        }
        Ok(told(SetSessionConfigOptionResponse::new(settings.options())))
    }

    fn set_model(&self, params: &Value) -> Result<Value, Error> {
        let session = self.open_session(params["sessionId"].as_str().unwrap_or_default())?;
        let known = locked(&session.settings).set("model", params["modelId"].as_str().unwrap_or_default());
        if known { Ok(json!({})) } else { Err(bad_params("model not found")) }
    }

    /// The turn begins here, so that a cancel right behind the prompt is the turn's.
    fn prompt(self: &Arc<Self>, params: Value, responder: Responder<Value>, client: &ConnectionTo<Client>) {
        let begun = parsed::<PromptRequest>(params).and_then(|request| {
            let session = self.open_session(&request.session_id.0)?;
            let text = turn::text(&request.prompt);
            let cancels = session
                .begin(&text, &self.store)
                .ok_or_else(|| Error::new(-32600, "a prompt is running in this session already"))?;
            Ok(Turn::new(self.clone(), session, client.clone(), text, cancels))
        });
        match begun {
            Ok(turn) => drop(tokio::spawn(turn.run(responder))),
            Err(error) => answer(responder, Err(error)),
        }
    }

    fn offers_options(&self) -> bool {
        !self.faults.has("no_options") && !self.faults.has("legacy_models")
    }

    fn needs_no_login(&self) -> Result<(), Error> {
        if self.faults.has("auth") && !self.authenticated.load(Ordering::SeqCst) {
            return Err(Error::new(-32000, "Authentication required"));
        }
        Ok(())
    }

    fn session(&self, id: &str) -> Option<Arc<Session>> {
        locked(&self.sessions).get(id).cloned()
    }

    fn open_session(&self, id: &str) -> Result<Arc<Session>, Error> {
        self.session(id).ok_or_else(|| bad_params(&format!("session not found: {id}")))
    }
}

fn step(method: &str) -> &str {
    match method {
        "session/set_config_option" | "session/set_model" => "set_option",
        _ => method.strip_prefix("session/").unwrap_or(method),
    }
}

fn parsed<T: DeserializeOwned>(params: Value) -> Result<T, Error> {
    serde_json::from_value(params).map_err(|error| bad_params(&error.to_string()))
}

pub fn told(value: impl Serialize) -> Value {
    serde_json::to_value(value).expect("the schema's own types are JSON")
}

/// A connection that is gone is nobody to tell.
pub fn answer(responder: Responder<Value>, result: Result<Value, Error>) {
    let _ = responder.respond_with_result(result);
}

fn no_method(method: &str) -> Error {
    Error::new(-32601, "Method not found").data(json!({"method": method}))
}

fn not_found(id: &str) -> Error {
    Error::new(-32002, "Resource not found").data(json!({"sessionId": id}))
}

fn bad_params(message: &str) -> Error {
    Error::new(-32602, format!("Invalid params: {message}"))
}
