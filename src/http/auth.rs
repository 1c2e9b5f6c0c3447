//! Who may come in: the bearer of the data folder's token, or of one that the database knows by its hash. Whoever fails too often
//! is not listened to for a while.

use super::Api;
use super::problem::Refusal;
use crate::domain::access::{Caller, Scope};
use crate::store::StoreError;
use axum::extract::{FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long the database's word on a token holds: so long a revoked one still lets in.
const WORD_HOLDS: Duration = Duration::from_secs(2);
/// So many failures from one address within [`FAILURES_WITHIN`], and it is not listened to until they are past.
const FAILURES_MAX: u32 = 10;
const FAILURES_WITHIN: Duration = Duration::from_secs(60);
/// Addresses and tokens that are remembered; beyond, the past ones are forgotten, then all.
const REMEMBERED_MAX: usize = 10_000;

/// The SHA-256 of a token. The token itself is not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Token([u8; 32]);

impl Token {
    /// Of the token's text. Comparing hashes tells nothing of the token by its time.
    pub fn of(text: &str) -> Self {
        Self(Sha256::digest(text.trim().as_bytes()).into())
    }

    /// What the database keeps.
    pub(super) fn hash(&self) -> &[u8; 32] {
        &self.0
    }
}

/// A new token: a prefix that scanners know, and 256 random bits.
pub fn generate_token() -> String {
    let bits: [u8; 32] = rand::random();
    let hex: String = bits.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("agp_{hex}")
}

/// What is remembered at the door.
pub struct Gate {
    owner: Token,
    known: Mutex<HashMap<Token, (Caller, Instant)>>,
    failed: Mutex<HashMap<IpAddr, (u32, Instant)>>,
}

impl Gate {
    /// Lets the data folder's token in, and whom the database knows.
    pub fn new(owner: Token) -> Self {
        Self { owner, known: Mutex::default(), failed: Mutex::default() }
    }

    /// Who that is, from memory alone.
    fn remembered(&self, token: Token) -> Option<Caller> {
        if token == self.owner {
            return Some(Caller::OWNER);
        }
        let known = lock(&self.known);
        known.get(&token).filter(|(_, since)| since.elapsed() < WORD_HOLDS).map(|(caller, _)| *caller)
    }

    fn remember(&self, token: Token, caller: Caller) {
        let mut known = lock(&self.known);
        make_room(&mut known, |(_, since)| since.elapsed() < WORD_HOLDS);
        known.insert(token, (caller, Instant::now()));
    }

    fn failure(&self, from: IpAddr) {
        let mut failed = lock(&self.failed);
        make_room(&mut failed, |(_, since)| since.elapsed() < FAILURES_WITHIN);
        let entry = failed.entry(from).or_insert((0, Instant::now()));
        if entry.1.elapsed() >= FAILURES_WITHIN {
            *entry = (0, Instant::now());
        }
        entry.0 += 1;
    }

    /// Until when an address is not listened to.
    fn shut_for(&self, from: IpAddr) -> Option<Duration> {
        let failed = lock(&self.failed);
        let (_, since) = failed.get(&from).filter(|(count, _)| *count >= FAILURES_MAX)?;
        FAILURES_WITHIN.checked_sub(since.elapsed())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // No panic can leave a map half-changed.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn make_room<K: Eq + std::hash::Hash, V>(map: &mut HashMap<K, V>, present: impl Fn(&V) -> bool) {
    if map.len() >= REMEMBERED_MAX {
        map.retain(|_, value| present(value));
    }
    if map.len() >= REMEMBERED_MAX {
        map.clear();
    }
}

/// The other end of a connection, put there by the server.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer(pub(super) IpAddr);

/// The address that counts: behind a proxy the one that the proxy names last.
fn address(api: &Api, request: &Request) -> IpAddr {
    let peer = request.extensions().get::<Peer>().map_or(IpAddr::from([0, 0, 0, 0]), |peer| peer.0);
    let named = request.headers().get_all("x-forwarded-for").iter().next_back();
    let named = named.and_then(|value| value.to_str().ok()?.rsplit(',').next()?.trim().parse().ok());
    named.filter(|_| api.doors.behind_proxy).unwrap_or(peer)
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ")
}

pub(super) async fn require_token(State(api): State<Api>, mut request: Request, next: Next) -> Response {
    let from = address(&api, &request);
    let Some(token) = bearer(request.headers()).map(Token::of) else { return unauthorized() };
    let caller = match api.gate.remembered(token) {
        Some(caller) => caller,
        None => {
            if let Some(left) = api.gate.shut_for(from) {
                return too_many(left);
            }
            match known(&api, token).await {
                Ok(Some(caller)) => caller,
                Ok(None) => {
                    api.gate.failure(from);
                    return unauthorized();
                }
                Err(error) => return Refusal::from(error).into_response(),
            }
        }
    };
    // Runners have routes of their own.
    if caller.scope == Scope::Runner {
        return super::problem::no_route().await.into_response();
    }
    request.extensions_mut().insert(caller);
    request.extensions_mut().insert(token);
    next.run(request).await
}

async fn known(api: &Api, token: Token) -> Result<Option<Caller>, StoreError> {
    let Some((caller, stale)) = api.store.caller(token.hash()).await? else { return Ok(None) };
    if let (true, Some(id)) = (stale, caller.token)
        && let Err(error) = api.store.token_used(id).await
    {
        tracing::debug!(%error, "the use of a token was not remembered");
    }
    api.gate.remember(token, caller);
    Ok(Some(caller))
}

/// Does that token still let in? Asked again and again by what stays open. An outage revokes nothing.
pub(super) async fn still_lets_in(api: &Api, token: Token) -> bool {
    api.gate.remembered(token).is_some()
        || known(api, token).await.is_ok_and(|caller| caller.is_some())
        || api.store.caller(token.hash()).await.is_err()
}

fn unauthorized() -> Response {
    let words = "send a token as `Authorization: Bearer …`: the one of the data folder's file `token`, or one of \
                 `agentpool token create`";
    let mut response = Refusal::new(StatusCode::UNAUTHORIZED, "unauthorized", words).into_response();
    response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    response
}

fn too_many(left: Duration) -> Response {
    let secs = left.as_secs() + 1;
    let words = format!("too many tokens from this address were wrong: try again in {secs} s");
    let refusal = Refusal::new(StatusCode::TOO_MANY_REQUESTS, "too_many_failures", words);
    let mut response = refusal.into_response();
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(secs));
    response
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Response> {
        parts.extensions.get().copied().ok_or_else(no_door)
    }
}

impl<S: Sync> FromRequestParts<S> for Token {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Response> {
        parts.extensions.get().copied().ok_or_else(no_door)
    }
}

/// [`require_token`] puts both there.
fn no_door() -> Response {
    Refusal::internal("a route without a door").into_response()
}

/// What concerns the whole service is not there for others.
pub(super) fn admin(caller: &Caller) -> Result<(), Refusal> {
    if caller.is_admin() { Ok(()) } else { Err(Refusal::not_found("no such route for this token")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    #[test]
    fn a_token_is_known_by_its_hash() {
        let text = generate_token();
        assert!(text.starts_with("agp_") && text.len() == 68);
        let gate = Gate::new(Token::of(&text));
        assert_eq!(gate.remembered(Token::of(&text)), Some(Caller::OWNER));
        assert_eq!(gate.remembered(Token::of("agp_0")), None);
        let other = Caller { token: Some(Uuid::nil()), scope: Scope::Client, workspace: None };
        gate.remember(Token::of("agp_0"), other);
        assert_eq!(gate.remembered(Token::of("agp_0")), Some(other));
    }

    #[test]
    fn an_address_that_fails_too_often_is_shut_out_and_no_other() {
        let gate = Gate::new(Token::of("x"));
        let (bad, good) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        for _ in 0..FAILURES_MAX {
            assert_eq!(gate.shut_for(bad), None);
            gate.failure(bad);
        }
        assert!(gate.shut_for(bad).is_some_and(|left| left <= FAILURES_WITHIN));
        assert_eq!(gate.shut_for(good), None);
    }
}
