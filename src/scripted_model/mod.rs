//! A model that does as it is told: a server on the loopback whose answers are chosen by directives in the last user
//! text. It lets real agents run in tests and in a demonstration without network, keys or chance. It never calls out,
//! and it is no part of serving tasks.
//!
//! # Dialects
//! All at one address, streamed and whole, with one log: an agent is pointed at the address that its provider has.
//!
//! | dialect | path | base address |
//! |---|---|---|
//! | OpenAI chat/completions | `/v1/chat/completions` | [`ScriptedModel::base_url`] |
//! | OpenAI Responses | `/v1/responses` | [`ScriptedModel::base_url`] |
//! | Anthropic Messages | `/v1/messages`, `/v1/messages/count_tokens` | [`ScriptedModel::root_url`] |
//! | Gemini | `/v1beta/models/MODEL:generateContent`, `:streamGenerateContent`, `:countTokens` | [`ScriptedModel::root_url`] |
//!
//! # Directives
//! Anywhere in the last user text; what takes a text takes the rest of its line. What stands within
//! `<conversation_so_far>…</conversation_so_far>`, a conversation told again, is passed over: its directives ran before.
//!
//! | directive | what the model does |
//! |---|---|
//! | `SAY: text` | says exactly this |
//! | `TOOL:write PATH CONTENT` | calls the write tool that is offered (or apply_patch, or a shell) |
//! | `TOOL:bash CMD`, `TOOL:read PATH`, `TOOL:plan` | calls the shell, read or to-do tool that is offered |
//! | `TOOL:raw NAME {json}` | calls a tool by its exact name; several `TOOL:` lines make one call a model turn |
//! | `THINK: text` | reasons before the answer |
//! | `RECALL` | lists all earlier user turns |
//! | `SLOW:n` | n tokens, one each 100 ms |
//! | `BIG:n` | n KiB of text at once |
//! | `HANG` | begins to answer and goes silent until the client leaves |
//! | `DROP` | half a stream, then the connection is cut |
//! | `LEN` | the answer ends because of the token limit |
//! | `FAIL:code`, `FAIL:codexN` | an HTTP error, always or for the first N tries of that text |
//! | `OVERFLOW:n` | the error of a conversation that is too long, while it has more than n user turns |
//!
//! Without a directive it echoes. A request that offers no tools, that wants JSON by a schema, or that begins as agents'
//! own questions do is an agent's side request (a title, a summary): it gets a short fixed answer and runs no directive.

mod conversation;
mod dialect;
mod directives;
mod http;
mod log;
mod play;
mod tools;

pub use log::{LoggedMessage, LoggedRequest, Outcome};

use log::Log;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

/// How long [`ScriptedModel::stop`] waits for clients that are in the middle of a request.
const STOP_WAIT: Duration = Duration::from_secs(2);

/// A running server. Dropping it stops it too, but waits for nothing.
pub struct ScriptedModel {
    port: u16,
    log: Arc<Log>,
    stopping: DropGuard,
    serving: JoinHandle<()>,
}

impl ScriptedModel {
    /// Listens on 127.0.0.1 at `port` (0: any free one) and serves from the runtime it is called in.
    ///
    /// # Errors
    /// When the port is taken or may not be bound.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn start(port: u16) -> io::Result<Self> {
        let listener = std::net::TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))?;
        listener.set_nonblocking(true)?;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let port = listener.local_addr()?.port();
        let log = Arc::new(Log::default());
        let stopping = CancellationToken::new();
        let router = http::router(Arc::clone(&log), stopping.clone());
        let stopped = stopping.clone().cancelled_owned();
        let serving = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, router).with_graceful_shutdown(stopped).await {
                tracing::error!(%error, "the scripted model stopped serving");
            }
        });
        Ok(Self { port, log, stopping: stopping.drop_guard(), serving })
    }

    /// What an agent is configured with: `http://127.0.0.1:PORT/v1`.
    pub fn base_url(&self) -> String {
        format!("http://127.0.0.1:{}/v1", self.port)
    }

    /// What Anthropic's and Gemini's clients are configured with: `http://127.0.0.1:PORT`.
    pub fn root_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The last [`LoggedRequest::KEPT_MAX`] requests, oldest first.
    pub fn requests(&self) -> Vec<LoggedRequest> {
        self.log.since(0)
    }

    /// Forgets all requests and how often each `FAIL:codexN` was tried; the numbers go on.
    pub fn reset(&self) {
        self.log.reset();
    }

    /// Serves until the future is dropped: for a server that is run by hand.
    ///
    /// # Cancel safety
    /// Dropping the future stops the server.
    pub async fn run(mut self) {
        // A serving task that was aborted or panicked serves no more: either way there is nothing left to wait for.
        let _ = (&mut self.serving).await;
    }

    /// Cuts the answers that are under way, closes the listener, and returns when both are done.
    pub async fn stop(mut self) {
        drop(self.stopping);
        if tokio::time::timeout(STOP_WAIT, &mut self.serving).await.is_err() {
            self.serving.abort();
        }
    }
}
