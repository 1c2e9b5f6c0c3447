//! `/api/events`: hints over everything that a token sees. Not a log: nothing is replayed.

use super::Api;
use super::auth::{self, Token};
use super::feed::FeedWake;
use super::outlet::Events;
use super::stream::{BEAT_EVERY, DOOR_EVERY};
use crate::domain::access::Caller;
use crate::domain::ids::{SessionId, WorkspaceId};
use axum::extract::State;
use axum::response::Sse;
use axum::response::sse::Event;
use futures::{Stream, StreamExt};
use serde_json::json;
use std::collections::HashMap;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::Instant;

/// Sessions that one reader remembers the workspace of.
const KNOWN_MAX: usize = 10_000;

struct Hints {
    api: Api,
    caller: Caller,
    token: Token,
    wakes: broadcast::Receiver<FeedWake>,
    /// Whether a session is seen, once asked.
    known: HashMap<SessionId, bool>,
    beat: Instant,
    door: Instant,
}

/// Hints over everything: which session has news. A hint may come twice or stand for several; one without a session means: look at
/// all.
#[utoipa::path(get, path = "/events", tag = "sessions",
    responses((status = 200, description = "Events `hint` (`session_id`, or nothing), `beat`",
        content_type = "text/event-stream", body = String)))]
pub(super) async fn all(
    State(api): State<Api>,
    (caller, token): (Caller, Token),
) -> Sse<impl Stream<Item = Events>> {
    let (wakes, now) = (api.feed.hints(), Instant::now());
    let hints = Hints {
        api,
        caller,
        token,
        wakes,
        known: HashMap::new(),
        beat: now + BEAT_EVERY,
        door: now + DOOR_EVERY,
    };
    let first = Event::default().event("hint").data("{}");
    let rest = futures::stream::unfold(hints, async |mut hints| Some((Ok(hints.next().await?), hints)));
    Sse::new(futures::stream::once(async { Ok(first) }).chain(rest))
}

impl Hints {
    async fn next(&mut self) -> Option<Event> {
        loop {
            let wake = tokio::select! {
                () = self.api.closing.cancelled() => return None,
                () = tokio::time::sleep_until(self.door) => None,
                wake = self.wakes.recv() => Some(wake),
            };
            if self.door <= Instant::now() {
                self.door = Instant::now() + DOOR_EVERY;
                if !auth::still_lets_in(&self.api, self.token).await {
                    return None;
                }
            }
            let data = match wake {
                Some(Err(RecvError::Closed)) => return None,
                Some(Ok(FeedWake::Session(session))) => {
                    self.sees(session).await.then(|| json!({"session_id": session.0}))
                }
                Some(Ok(FeedWake::Any) | Err(RecvError::Lagged(_))) => Some(json!({})),
                None => None,
            };
            if let Some(data) = data {
                self.beat = Instant::now() + BEAT_EVERY;
                return Some(Event::default().event("hint").data(data.to_string()));
            }
            if self.beat <= Instant::now() {
                self.beat = Instant::now() + BEAT_EVERY;
                return Some(Event::default().event("beat").data("{}"));
            }
        }
    }

    async fn sees(&mut self, session: SessionId) -> bool {
        if self.caller.workspace.is_none() {
            return true;
        }
        if let Some(seen) = self.known.get(&session) {
            return *seen;
        }
        let Ok(Some((workspace, _))) = self.api.store.session_status(session.0).await else { return false };
        if self.known.len() >= KNOWN_MAX {
            self.known.clear();
        }
        *self.known.entry(session).or_insert(self.caller.sees(WorkspaceId(workspace)))
    }
}
