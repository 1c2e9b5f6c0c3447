//! How much memory a server holds, and when it is ended for it: between turns, never during one. Starts nothing.

use super::life::Life;
use super::server::Server;
use crate::process::resident_bytes;
use std::sync::Arc;
use tokio::time::{sleep, timeout};

/// Resolves with its size in bytes when the server is too large, nobody uses it, and nobody can come to it any more.
///
/// # Cancel safety
/// May be dropped when the server is lost or stopped; else new turns could be kept waiting.
pub(super) async fn worn_out(life: &Life, server: &Arc<Server>) -> u64 {
    let (patience, limit) = (&life.config().patience, life.config().memory_soft_bytes);
    loop {
        sleep(patience.memory_look).await;
        let bytes = size_of(server).await;
        if bytes <= limit {
            continue;
        }
        life.hold(server, bytes);
        if timeout(patience.hold, server.users.wait()).await.is_ok() {
            // What tools held went with their turns.
            let bytes = size_of(server).await;
            if bytes > limit {
                return bytes;
            }
            life.let_on(server, None);
            continue;
        }
        let mb = bytes >> 20;
        tracing::warn!(
            mb,
            turns = server.turns(),
            "opencode is too large and has turns that do not end; it goes on"
        );
        life.let_on(server, Some(bytes));
        // The next gap will do without making anybody wait.
        let _ = timeout(patience.hold_again, server.users.wait()).await;
    }
}

async fn size_of(server: &Arc<Server>) -> u64 {
    let pid = server.pid;
    // It fails only when the runtime ends.
    tokio::task::spawn_blocking(move || resident_bytes(pid)).await.unwrap_or(0)
}
