//! Plays frames in real time, and says in the log how that went. Decides nothing about what is said.

use super::dialect::Frame;
use super::log::{Log, Outcome};
use axum::body::{Body, Bytes};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Says how an answer went, also when the client leaves and the answer is dropped.
pub(super) struct Settle {
    n: u64,
    log: Arc<Log>,
    outcome: Outcome,
}

impl Settle {
    /// Of a request that was logged under this number; cut off unless it is said otherwise.
    pub(super) fn new(n: u64, log: Arc<Log>) -> Self {
        Self { n, log, outcome: Outcome::CutOff }
    }

    pub(super) fn to(mut self, outcome: Outcome) {
        self.outcome = outcome;
    }
}

impl Drop for Settle {
    fn drop(&mut self) {
        self.log.settle(self.n, self.outcome);
    }
}

/// Plays frames in real time. An error in a body makes the server cut the connection, so that a client never takes
/// an answer that was stopped for a whole one.
pub(super) fn play(
    frames: VecDeque<Frame>,
    kind: &'static str,
    settle: Settle,
    stopping: CancellationToken,
) -> Response {
    let state = (frames, Some(settle), stopping);
    let frames = futures::stream::unfold(state, async |(mut frames, mut settle, stopping)| {
        let outcome = loop {
            let wait = match frames.pop_front() {
                Some(Frame::Bytes(bytes)) => {
                    return Some((Ok(Bytes::from(bytes)), (frames, settle, stopping)));
                }
                Some(Frame::Pause(pause)) => pause,
                Some(Frame::Hang) => Duration::MAX,
                Some(Frame::Drop) => break Outcome::Dropped,
                None => {
                    settle.take()?.to(Outcome::Finished);
                    return None;
                }
            };
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = stopping.cancelled() => break Outcome::CutOff,
            }
        };
        settle.take()?.to(outcome);
        frames.clear();
        Some((Err(io::Error::from(io::ErrorKind::ConnectionReset)), (frames, None, stopping)))
    });
    let headers = [(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "no-cache")];
    (headers, Body::from_stream(frames)).into_response()
}
