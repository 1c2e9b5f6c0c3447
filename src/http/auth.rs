//! Who may come in: the bearer of the token, and only under a name of this machine (a page in a browser that was pointed here by
//! DNS names another host).

use super::Api;
use super::problem::Refusal;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};

/// The hash of the one token. The token itself is not kept.
#[derive(Clone, Copy, Debug)]
pub struct Token([u8; 32]);

impl Token {
    /// Of the token's text.
    pub fn of(text: &str) -> Self {
        Self(Sha256::digest(text.trim().as_bytes()).into())
    }

    /// Equal hashes mean equal tokens; comparing hashes tells nothing of the token by its time.
    fn matches(&self, text: &str) -> bool {
        Self::of(text).0 == self.0
    }
}

/// A new token: a prefix that scanners know, and 256 random bits.
pub fn generate_token() -> String {
    let bits: [u8; 32] = rand::random();
    let hex: String = bits.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("agp_{hex}")
}

pub(super) async fn require_token(State(api): State<Api>, request: Request, next: Next) -> Response {
    let given = request
        .headers()
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.strip_prefix("Bearer "));
    match given {
        Some(text) if api.token.matches(text) => next.run(request).await,
        _ => {
            let words = "send the token of the data folder's file `token` as `Authorization: Bearer …`";
            let mut response = Refusal::new(StatusCode::UNAUTHORIZED, "unauthorized", words).into_response();
            response
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, axum::http::HeaderValue::from_static("Bearer"));
            response
        }
    }
}

pub(super) async fn require_known_host(request: Request, next: Next) -> Response {
    let host = request
        .headers()
        .get(header::HOST)
        .and_then(|value| value.to_str().ok())
        .or_else(|| request.uri().authority().map(|authority| authority.as_str()));
    if host.is_some_and(is_loopback) {
        return next.run(request).await;
    }
    let words = "the Host header must name this machine (127.0.0.1, localhost or [::1])";
    Refusal::new(StatusCode::MISDIRECTED_REQUEST, "wrong_host", words).into_response()
}

fn is_loopback(host: &str) -> bool {
    let name = host
        .rsplit_once(':')
        .filter(|(_, port)| port.bytes().all(|b| b.is_ascii_digit()))
        .map_or(host, |(name, _)| name);
    matches!(name, "127.0.0.1" | "localhost" | "[::1]")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_this_machine_are_known() {
        for good in ["127.0.0.1", "127.0.0.1:7717", "localhost:1", "[::1]:7717", "[::1]"] {
            assert!(is_loopback(good), "{good}");
        }
        for bad in ["evil.example", "127.0.0.1.evil.example:80", "localhost.evil:7717", "", "10.0.0.1:7717"] {
            assert!(!is_loopback(bad), "{bad}");
        }
    }

    #[test]
    fn a_token_is_known_by_its_hash() {
        let text = generate_token();
        assert!(text.starts_with("agp_") && text.len() == 68);
        assert!(Token::of(&text).matches(&text) && !Token::of(&text).matches("agp_0"));
    }
}
