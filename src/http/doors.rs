//! By which names this service may be called: a page in a browser that was pointed here by DNS names another host, and a page of
//! another origin is not answered at all.

use super::Api;
use super::problem::Refusal;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

/// How the service is reached.
#[derive(Clone, Debug, Default)]
pub struct Doors {
    /// A proxy stands before it, and says who asks.
    pub behind_proxy: bool,
    /// Names besides those of this machine, without a port, in lower case.
    pub hosts: Vec<String>,
}

impl Doors {
    fn know(&self, host: &str) -> bool {
        let name = without_port(host);
        matches!(name, "127.0.0.1" | "localhost" | "[::1]")
            || self.hosts.iter().any(|known| known.eq_ignore_ascii_case(name))
    }

    /// `scheme://host[:port]`; a page without an origin of its own says `null`.
    fn know_origin(&self, origin: &str) -> bool {
        origin.split_once("://").is_some_and(|(scheme, host)| {
            matches!(scheme, "http" | "https") && !host.contains('/') && self.know(host)
        })
    }
}

fn without_port(host: &str) -> &str {
    host.rsplit_once(':')
        .filter(|(_, port)| port.bytes().all(|b| b.is_ascii_digit()))
        .map_or(host, |(name, _)| name)
}

pub(super) async fn require_known(State(api): State<Api>, request: Request, next: Next) -> Response {
    match refusal(&api.doors, request.headers(), request.uri()) {
        Some(refusal) => refusal.into_response(),
        None => next.run(request).await,
    }
}

fn refusal(doors: &Doors, headers: &HeaderMap, uri: &Uri) -> Option<Refusal> {
    let header = |name| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    let host = header(header::HOST).or_else(|| uri.authority().map(|authority| authority.as_str()));
    if !host.is_some_and(|host| doors.know(host)) {
        let words = "the Host header must name this machine (127.0.0.1, localhost or [::1]) or one of `hosts` in its configuration";
        return Some(Refusal::new(StatusCode::MISDIRECTED_REQUEST, "wrong_host", words));
    }
    if header(header::ORIGIN).is_some_and(|origin| !doors.know_origin(origin)) {
        let words =
            "pages of another origin may not use this service: serve the page from one of its own names";
        return Some(Refusal::new(StatusCode::FORBIDDEN, "wrong_origin", words));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_its_own_names_are_known() {
        let doors = Doors { hosts: vec!["pool.example.org".to_owned()], ..Doors::default() };
        for good in
            ["127.0.0.1", "127.0.0.1:7717", "localhost:1", "[::1]:7717", "[::1]", "POOL.example.org:443"]
        {
            assert!(doors.know(good), "{good}");
        }
        for bad in ["evil.example", "127.0.0.1.evil.example:80", "localhost.evil:7717", "", "10.0.0.1:7717"] {
            assert!(!doors.know(bad), "{bad}");
        }
        for good in ["http://localhost:7717", "https://pool.example.org"] {
            assert!(doors.know_origin(good), "{good}");
        }
        for bad in ["null", "https://evil.example", "file://localhost", "https://localhost/x", "localhost"] {
            assert!(!doors.know_origin(bad), "{bad}");
        }
    }
}
