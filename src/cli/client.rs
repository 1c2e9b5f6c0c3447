//! Speaks HTTP with a running service: where it is, with which token, and what its refusals mean. Knows no command.

use super::CliError;
use super::error::problem;
use crate::config::{self, Config, ConfigArgs, ConfigPlace};
use crate::domain::text::for_terminal;
use crate::wire::api::Problem;
use reqwest::{Certificate, ClientBuilder, Method, RequestBuilder, Response, StatusCode, Url};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io::{self, IsTerminal, Write};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a connection may take to come about: it is this machine, or a tunnel.
const CONNECT_DEADLINE: Duration = Duration::from_secs(5);

/// How long an answer may take. Applying changes and removing a worktree work on a whole repository.
const ANSWER_DEADLINE: Duration = Duration::from_secs(120);

/// Which service, and as whom.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct ClientArgs {
    /// Where the service answers [default: $AGENTPOOL_URL, else the configured address]
    #[arg(long, value_name = "URL", help_heading = "Service")]
    pub url: Option<String>,
    /// File with the service's token [default: $AGENTPOOL_TOKEN, else `token` in the data folder]
    #[arg(long, value_name = "FILE", help_heading = "Service")]
    pub token_file: Option<PathBuf>,
    /// Trust what these certificates sign too, in PEM [default: $AGENTPOOL_CA_FILE]
    #[arg(long, value_name = "FILE", help_heading = "Service")]
    pub ca_file: Option<PathBuf>,
    /// Where the configuration is.
    #[command(flatten)]
    pub place: ConfigPlace,
}

impl ClientArgs {
    /// The flags that lead another command to the same service, with a space before each, for a shell.
    pub(super) fn again(&self) -> String {
        let path = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string());
        let flags = [
            ("url", self.url.clone()),
            ("token-file", path(&self.token_file)),
            ("ca-file", path(&self.ca_file)),
            ("config", path(&self.place.config)),
            ("data-dir", path(&self.place.data_dir)),
        ];
        let given = flags.into_iter().filter_map(|(flag, value)| Some((flag, value?)));
        given.map(|(flag, value)| format!(" --{flag} {}", quoted(&value))).collect()
    }
}

/// As one word of a shell.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@%+=,".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// A way to the service.
pub(super) struct Client {
    http: reqwest::Client,
    base: Url,
    token: Option<Token>,
}

struct Token {
    text: String,
    /// Where it is from, for people.
    origin: String,
}

impl Client {
    /// Finds out where the service is and as whom to speak. Sends nothing.
    pub(super) fn new(args: &ClientArgs) -> Result<Self, CliError> {
        let config = config::load(&ConfigArgs { place: args.place.clone(), ..ConfigArgs::default() })?;
        let trusted = args.ca_file.clone().or_else(|| variable("AGENTPOOL_CA_FILE").map(PathBuf::from));
        let http = trusting(trusted.as_deref())?;
        let named = args.url.clone().or_else(|| variable("AGENTPOOL_URL"));
        let is_own = named.is_none();
        let (base, http) = match named {
            Some(url) => (parse_base(&url)?, http),
            None => own(&config, http)?,
        };
        let token = find_token(args, &base, is_own, &config.token_file())?;
        let http = http.build().map_err(|error| CliError::Runtime(io::Error::other(error)))?;
        Ok(Self { http, base, token })
    }

    /// Of a service whose address and token are known.
    pub(super) fn at(url: &str, token: &str) -> Result<Self, CliError> {
        let token = Token { text: token.to_owned(), origin: "the service itself".to_owned() };
        let http = http().build().map_err(|error| CliError::Runtime(io::Error::other(error)))?;
        Ok(Self { http, base: parse_base(url)?, token: Some(token) })
    }

    /// Where the service is looked for, as it may be shown.
    pub(super) fn url(&self) -> String {
        self.base.as_str().trim_end_matches('/').to_owned()
    }

    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, CliError> {
        self.json(self.request(Method::GET, path)).await
    }

    /// With `?name=value` for each that has one.
    pub(super) async fn get_with<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, Option<String>)],
    ) -> Result<T, CliError> {
        let given: Vec<_> = query.iter().filter_map(|(name, value)| Some((*name, value.as_ref()?))).collect();
        self.json(self.request(Method::GET, path).query(&given)).await
    }

    /// What comes, byte for byte, to standard output; to a terminal harmless.
    pub(super) async fn copy_to_stdout(
        &self,
        path: &str,
        query: &[(&str, Option<String>)],
    ) -> Result<(), CliError> {
        let given: Vec<_> = query.iter().filter_map(|(name, value)| Some((*name, value.as_ref()?))).collect();
        let mut response = self.send(self.request(Method::GET, path).query(&given)).await?;
        let mut stdout = io::stdout().lock();
        if stdout.is_terminal() {
            let bytes = response.bytes().await.map_err(|error| self.no_answer(&error))?;
            return write!(stdout, "{}", for_terminal(&String::from_utf8_lossy(&bytes)))
                .map_err(CliError::Output);
        }
        while let Some(bytes) = response.chunk().await.map_err(|error| self.no_answer(&error))? {
            stdout.write_all(&bytes).map_err(CliError::Output)?;
        }
        stdout.flush().map_err(CliError::Output)
    }

    pub(super) async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, CliError> {
        self.json(self.request(Method::POST, path).json(body)).await
    }

    /// What is gone is told by the status alone.
    pub(super) async fn delete(&self, path: &str) -> Result<(), CliError> {
        self.send(self.request(Method::DELETE, path).timeout(ANSWER_DEADLINE)).await.map(drop)
    }

    /// As [`Client::post`], under an Idempotency-Key; says whether the service knew it already.
    pub(super) async fn post_once<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
        key: Option<&str>,
    ) -> Result<(T, bool), CliError> {
        let mut request = self.request(Method::POST, path).json(body);
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        let response = self.send(request.timeout(ANSWER_DEADLINE)).await?;
        let repeated = response.status() == StatusCode::OK;
        Ok((self.decode(response).await?, repeated))
    }

    /// An event stream, from after `cursor` on. It has no deadline; its reader watches the beats.
    pub(super) async fn stream(&self, path: &str, cursor: Option<&str>) -> Result<Response, CliError> {
        let mut request = self.request(Method::GET, path).header("accept", "text/event-stream");
        if let Some(cursor) = cursor {
            request = request.header("last-event-id", cursor);
        }
        self.send(request).await
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.url()));
        match &self.token {
            Some(token) => request.bearer_auth(&token.text),
            None => request,
        }
    }

    async fn json<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, CliError> {
        let response = self.send(request.timeout(ANSWER_DEADLINE)).await?;
        self.decode(response).await
    }

    async fn send(&self, request: RequestBuilder) -> Result<Response, CliError> {
        let response = request.send().await.map_err(|error| self.no_answer(&error))?;
        match response.status() {
            status if status.is_success() => Ok(response),
            StatusCode::UNAUTHORIZED => {
                let token = match &self.token {
                    Some(token) => format!("the token from {}", token.origin),
                    None => "a request without a token".to_owned(),
                };
                let request_id = self.problem(response).await.request_id;
                Err(CliError::Unauthorized { url: self.url(), token, request_id })
            }
            _ => Err(CliError::Refused(Box::new(self.problem(response).await))),
        }
    }

    /// What the service says of a refusal, or what its status alone says.
    async fn problem(&self, response: Response) -> Problem {
        let status = response.status();
        let body = response.bytes().await.unwrap_or_default();
        match serde_json::from_slice::<Problem>(&body) {
            // What stands between may have changed it; the words must not say otherwise than the answer.
            Ok(problem) => Problem { status: status.as_u16(), ..problem },
            Err(_) => problem(status.as_u16(), "refused", format!("{} answered {status}", self.url())),
        }
    }

    async fn decode<T: DeserializeOwned>(&self, response: Response) -> Result<T, CliError> {
        let body = response.bytes().await.map_err(|error| self.no_answer(&error))?;
        serde_json::from_slice(&body)
            .map_err(|error| CliError::Foreign { url: self.url(), problem: error.to_string() })
    }

    fn no_answer(&self, error: &reqwest::Error) -> CliError {
        // A certificate that is not trusted: somebody does answer there.
        let is_tls = innermost(error).contains("certificate");
        if error.is_connect() && !is_tls {
            return CliError::Unreachable { url: self.url() };
        }
        let problem = if error.is_timeout() {
            format!("nothing came within {} seconds", ANSWER_DEADLINE.as_secs())
        } else {
            innermost(error)
        };
        CliError::Broken { url: self.url(), problem }
    }
}

fn http() -> ClientBuilder {
    // A proxy is for the world outside; the service is here.
    reqwest::Client::builder().connect_timeout(CONNECT_DEADLINE).no_proxy()
}

/// With the certificates in that file besides those that the system trusts.
fn trusting(path: Option<&Path>) -> Result<ClientBuilder, CliError> {
    let Some(path) = path else { return Ok(http()) };
    let pem = std::fs::read(path).map_err(|source| CliError::File { path: path.to_owned(), source })?;
    match Certificate::from_pem_bundle(&pem) {
        Ok(certificates) if !certificates.is_empty() => Ok(http().tls_certs_merge(certificates)),
        _ => Err(CliError::Usage(format!("{path:?} holds no certificate in PEM"))),
    }
}

/// The service of this machine's configuration: where it listens; with TLS by the first of its names, and as its certificate says.
fn own(config: &Config, http: ClientBuilder) -> Result<(Url, ClientBuilder), CliError> {
    let mut at = config.listen;
    if at.ip().is_unspecified() {
        at.set_ip(if at.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() });
    }
    let Some(tls) = &config.tls else { return Ok((parse_base(&format!("http://{at}"))?, http)) };
    // Who may not read it may trust what signed it.
    let pem = std::fs::read(&tls.certificate).unwrap_or_default();
    let http = http.tls_certs_merge(Certificate::from_pem_bundle(&pem).unwrap_or_default());
    match config.hosts.first() {
        Some(host) => Ok((parse_base(&format!("https://{host}:{}", at.port()))?, http.resolve(host, at))),
        None => Ok((parse_base(&format!("https://{at}"))?, http)),
    }
}

/// The last cause: the outer ones only repeat the address.
pub(super) fn innermost(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

fn parse_base(text: &str) -> Result<Url, CliError> {
    let usage = |problem: &str| CliError::Usage(format!("{text:?} is no address of a service: {problem}"));
    let url = Url::parse(text).map_err(|_| usage("write it as http://127.0.0.1:7717"))?;
    match url.scheme() {
        // It would be sent in place of the token, and shown with every error.
        "http" | "https" if !url.username().is_empty() || url.password().is_some() => Err(CliError::Usage(
            "an address of a service has no user in it: the token says who asks".to_owned(),
        )),
        "http" | "https" if url.has_host() => Ok(url),
        _ => Err(usage("write it as http://127.0.0.1:7717")),
    }
}

/// A named token goes wherever it is asked to go; the data folder's only to this machine.
fn find_token(
    args: &ClientArgs,
    base: &Url,
    is_own: bool,
    in_data_folder: &Path,
) -> Result<Option<Token>, CliError> {
    if let Some(path) = &args.token_file {
        return read_token(path).map(Some);
    }
    if let Some(text) = variable("AGENTPOOL_TOKEN") {
        return Ok(Some(Token { text: text.trim().to_owned(), origin: "AGENTPOOL_TOKEN".to_owned() }));
    }
    if !is_loopback(base) && !is_own {
        return Ok(None);
    }
    match read_token(in_data_folder) {
        Ok(token) => Ok(Some(token)),
        Err(CliError::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn read_token(path: &Path) -> Result<Token, CliError> {
    let text =
        std::fs::read_to_string(path).map_err(|source| CliError::File { path: path.to_owned(), source })?;
    Ok(Token { text: text.trim().to_owned(), origin: format!("{path:?}") })
}

fn is_loopback(url: &Url) -> bool {
    match url.host_str().map(|host| host.trim_matches(['[', ']'])) {
        Some("localhost") => true,
        Some(host) => host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback()),
        None => false,
    }
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_data_folders_token_stays_on_this_machine() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        std::fs::write(&file, "agp_1\n").unwrap();
        let token_for = |url: &str| {
            let token = find_token(&ClientArgs::default(), &parse_base(url).unwrap(), false, &file).unwrap();
            token.map(|token| token.text)
        };
        for url in ["http://127.0.0.1:7717", "http://localhost:1", "http://[::1]:7717"] {
            assert_eq!(token_for(url).as_deref(), Some("agp_1"), "{url}");
        }
        assert_eq!(token_for("http://192.0.2.1:7717"), None);
        assert_eq!(token_for("http://127.0.0.1.example.org"), None);
    }

    #[test]
    fn a_command_that_is_told_reaches_the_same_service() {
        let place = ConfigPlace { config: None, data_dir: Some("/srv/it's here".into()) };
        let args =
            ClientArgs { url: Some("http://127.0.0.1:1".into()), token_file: None, ca_file: None, place };
        assert_eq!(args.again(), r" --url http://127.0.0.1:1 --data-dir '/srv/it'\''s here'");
        assert_eq!(ClientArgs::default().again(), "");
    }

    #[test]
    fn an_address_that_cannot_be_used_is_a_usage_error() {
        for url in ["https:", "127.0.0.1:7717", "localhost:7717", "file:///x"] {
            assert!(matches!(parse_base(url), Err(CliError::Usage(_))), "{url}");
        }
    }
}
