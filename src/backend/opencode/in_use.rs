//! The right to use a server: while anybody holds one, the server is not ended for its size. Never keeps a lost one alive.

use super::server::Server;
use std::ops::Deref;
use std::sync::Arc;
use tokio_util::task::task_tracker::TaskTrackerToken;

/// A server that somebody works with.
#[derive(Clone)]
pub(super) struct InUse {
    server: Arc<Server>,
    _token: TaskTrackerToken,
}

impl InUse {
    /// Counts one more user. Call it under the lock that says whether the server takes any.
    pub fn of(server: &Arc<Server>) -> Self {
        Self { server: Arc::clone(server), _token: server.users.token() }
    }
}

impl Deref for InUse {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.server
    }
}
