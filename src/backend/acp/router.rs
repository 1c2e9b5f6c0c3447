//! Whose an update or a question is: from the ids on one process's wire to its conversations. Decides nothing.

use super::conversation::{Conversation, Said};
use super::lines::{Counts, Updates};
use super::offers::Told;
use agent_client_protocol::v1::Responder;
use agent_client_protocol::v1::schema::{
    RequestPermissionOutcome, RequestPermissionRequest, RequestPermissionResponse, SessionNotification,
};
use serde_json::Value;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Conversations that spoke before we knew them, at most: the answer that names one may still be on its way to us.
const EARLY_MAX: usize = 8;

/// A question of the agent that its turn has to answer.
pub(super) struct Ask {
    pub(super) request: RequestPermissionRequest,
    pub(super) responder: Responder<RequestPermissionResponse>,
}

impl Ask {
    /// Nobody will answer.
    pub(super) fn cancel(self) {
        let answer = RequestPermissionResponse::new(RequestPermissionOutcome::Cancelled);
        // Only a connection that is gone fails, and then nobody waits.
        let _ = self.responder.respond(answer);
    }
}

/// The conversations of a process.
pub(super) struct Router {
    agent: String,
    counts: Arc<Counts>,
    routes: Mutex<Routes>,
}

#[derive(Default)]
struct Routes {
    known: HashMap<String, Arc<Conversation>>,
    /// What was told of conversations that nobody has claimed yet, while some are being opened.
    early: HashMap<String, Told>,
    opening: usize,
}

/// While it lives, conversations with unknown ids may be about to be claimed.
pub(super) struct Opening(Arc<Router>);

impl Router {
    pub(super) fn new(agent: String, counts: Arc<Counts>) -> Arc<Self> {
        Arc::new(Self { agent, counts, routes: Mutex::default() })
    }

    pub(super) fn opening(self: &Arc<Self>) -> Opening {
        self.routes().opening += 1;
        Opening(Arc::clone(self))
    }

    /// A conversation that the agent has opened, with what it has told of it so far.
    pub(super) fn claim(&self, id: &str, worktree: PathBuf, mut told: Told) -> Arc<Conversation> {
        let mut routes = self.routes();
        if let Some(early) = routes.early.remove(id) {
            told.merge(early);
        }
        let conversation = Conversation::new(id.to_owned(), worktree, told);
        routes.known.insert(id.to_owned(), Arc::clone(&conversation));
        conversation
    }

    pub(super) fn forget(&self, id: &str) {
        self.routes().known.remove(id);
    }

    pub(super) fn conversation(&self, id: &str) -> Option<Arc<Conversation>> {
        self.routes().known.get(id).cloned()
    }

    /// Conversations that are open.
    pub(super) fn count(&self) -> usize {
        self.routes().known.len()
    }

    /// To the turn that it concerns; cancelled where there is none.
    pub(super) fn ask(&self, ask: Box<Ask>) {
        let conversation = self.conversation(&ask.request.session_id.0);
        let refused = match conversation {
            Some(conversation) => conversation.ask(ask).err(),
            None => {
                self.foreign(&ask.request.session_id.0);
                Some(ask)
            }
        };
        if let Some(ask) = refused {
            ask.cancel();
        }
    }

    fn foreign(&self, id: &str) {
        if self.counts.foreign.fetch_add(1, Ordering::Relaxed) == 0 {
            let id: String = id.chars().take(64).collect();
            tracing::warn!(agent = self.agent, conversation = ?id, "the agent speaks of a conversation that is not its own; dropped");
        }
    }

    fn routes(&self) -> MutexGuard<'_, Routes> {
        // No panic can leave a map half-changed.
        self.routes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Opening {
    fn drop(&mut self) {
        let mut routes = self.0.routes();
        routes.opening -= 1;
        if routes.opening == 0 {
            routes.early.clear();
        }
    }
}

impl Updates for Router {
    async fn take(&self, params: Value) {
        let id = params.get("sessionId").and_then(Value::as_str).unwrap_or_default().to_owned();
        let kind =
            params.pointer("/update/sessionUpdate").and_then(Value::as_str).unwrap_or("none").to_owned();
        let said = match serde_json::from_value::<SessionNotification>(params) {
            Ok(notification) => Said::Update(Box::new(notification.update)),
            Err(_) => {
                self.counts.unknown.fetch_add(1, Ordering::Relaxed);
                Said::Unknown(kind.chars().take(64).collect())
            }
        };
        let conversation = {
            let mut routes = self.routes();
            match routes.known.get(&id) {
                Some(conversation) => Some(Arc::clone(conversation)),
                None if routes.opening > 0
                    && (routes.early.len() < EARLY_MAX || routes.early.contains_key(&id)) =>
                {
                    if let Said::Update(update) = &said {
                        routes.early.entry(id.clone()).or_default().take(update);
                    }
                    return;
                }
                None => None,
            }
        };
        match conversation {
            Some(conversation) => conversation.take(said).await,
            None => self.foreign(&id),
        }
    }
}
