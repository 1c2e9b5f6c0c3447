//! The wire, line by line: what an agent writes is bounded, told apart and counted here; updates go straight to whom they
//! concern, the rest to the protocol crate. Knows no conversation and answers nothing.

use futures::{Sink, Stream};
use serde::Deserialize;
use serde_json::Value;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Longest line that is taken, in bytes; what is longer is thrown away up to its newline.
pub(super) const LINE_BYTES_MAX: usize = 16 << 20;
/// So many lines in a row that are no message mean that this is no agent.
const GARBAGE_MAX: u32 = 1000;
/// Read at once, in bytes: what a pipe holds.
const CHUNK_BYTES: usize = 64 << 10;

/// What came that was none of a message's business.
#[derive(Debug, Default)]
pub(super) struct Counts {
    /// Lines that are no JSON object, or no UTF-8.
    pub(super) garbage: AtomicU64,
    /// Lines that were too long.
    pub(super) too_long: AtomicU64,
    /// Updates of a kind or shape that we do not know.
    pub(super) unknown: AtomicU64,
    /// Updates for conversations that are not this process's.
    pub(super) foreign: AtomicU64,
}

/// Takes the updates. Taking may wait: then nothing more is read, and the agent feels it.
pub(super) trait Updates: Send + Sync + 'static {
    /// `params` of one `session/update`.
    fn take(&self, params: Value) -> impl Future<Output = ()> + Send;
}

/// What must be known of a line to send it its way.
#[derive(Deserialize)]
struct Envelope {
    method: Option<String>,
    #[serde(default)]
    params: Value,
}

struct Reader<R, U> {
    from: R,
    updates: Arc<U>,
    counts: Arc<Counts>,
    buffer: Vec<u8>,
    /// Bytes of `buffer` that hold no newline.
    searched: usize,
    /// The rest of a line that was too long is thrown away.
    skipping: bool,
    garbage_in_a_row: u32,
    chunk: Vec<u8>,
}

/// The messages that are for the protocol crate. Ends with the input; fails when it is no agent that speaks.
pub(super) fn incoming<U: Updates>(
    from: impl AsyncRead + Send + Unpin + 'static,
    updates: Arc<U>,
    counts: Arc<Counts>,
) -> impl Stream<Item = io::Result<String>> + Send + 'static {
    let reader = Reader {
        from,
        updates,
        counts,
        buffer: Vec::new(),
        searched: 0,
        skipping: false,
        garbage_in_a_row: 0,
        chunk: vec![0; CHUNK_BYTES],
    };
    futures::stream::unfold(Some(reader), |reader| async {
        let mut reader = reader?;
        match reader.next_message().await {
            Ok(Some(message)) => Some((Ok(message), Some(reader))),
            Ok(None) => None,
            Err(error) => Some((Err(error), None)),
        }
    })
}

impl<R: AsyncRead + Unpin, U: Updates> Reader<R, U> {
    async fn next_message(&mut self) -> io::Result<Option<String>> {
        while let Some(line) = self.next_line().await? {
            let line = line.trim_ascii();
            if line.is_empty() {
                continue;
            }
            let Some(text) = str::from_utf8(line).ok().filter(|text| text.starts_with('{')) else {
                self.count_garbage()?;
                continue;
            };
            match serde_json::from_str::<Envelope>(text) {
                Err(_) => self.count_garbage()?,
                Ok(Envelope { method: Some(method), params }) if method == "session/update" => {
                    self.garbage_in_a_row = 0;
                    self.updates.take(params).await;
                }
                Ok(_) => {
                    self.garbage_in_a_row = 0;
                    return Ok(Some(text.to_owned()));
                }
            }
        }
        Ok(None)
    }

    fn count_garbage(&mut self) -> io::Result<()> {
        self.counts.garbage.fetch_add(1, Ordering::Relaxed);
        self.garbage_in_a_row += 1;
        if self.garbage_in_a_row > GARBAGE_MAX {
            return Err(io::Error::other(format!(
                "it wrote {GARBAGE_MAX} lines in a row that are no messages: is it an agent that speaks ACP?"
            )));
        }
        Ok(())
    }

    /// A line without its newline. What stands behind the last newline is no line.
    async fn next_line(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            if let Some(at) = self.buffer[self.searched..].iter().position(|&byte| byte == b'\n') {
                let rest = self.buffer.split_off(self.searched + at + 1);
                let mut line = std::mem::replace(&mut self.buffer, rest);
                self.searched = 0;
                line.pop();
                if std::mem::take(&mut self.skipping) {
                    continue;
                }
                return Ok(Some(line));
            }
            self.searched = self.buffer.len();
            if self.buffer.len() > LINE_BYTES_MAX {
                if !std::mem::replace(&mut self.skipping, true) {
                    self.counts.too_long.fetch_add(1, Ordering::Relaxed);
                    tracing::warn!(bytes_max = LINE_BYTES_MAX, "an agent's line was too long and is skipped");
                }
                self.buffer = Vec::new();
                self.searched = 0;
            }
            match self.from.read(&mut self.chunk).await? {
                0 => return Ok(None),
                length => self.buffer.extend_from_slice(&self.chunk[..length]),
            }
        }
    }
}

/// Where messages to the agent go, each within `deadline`: an agent that does not read is lost.
pub(super) fn outgoing(
    to: impl AsyncWrite + Send + Unpin + 'static,
    deadline: Duration,
) -> impl Sink<String, Error = io::Error> + Send + 'static {
    futures::sink::unfold(to, move |mut to, line: String| async move {
        let mut bytes = line.into_bytes();
        bytes.push(b'\n');
        let written = async {
            to.write_all(&bytes).await?;
            to.flush().await
        };
        match tokio::time::timeout(deadline, written).await {
            Ok(written) => written.map(|()| to),
            Err(_) => {
                Err(io::Error::other(format!("it did not read its input for {} s", deadline.as_secs())))
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::StreamExt;
    use std::sync::Mutex;

    #[derive(Default)]
    struct Kept(Mutex<Vec<Value>>);

    impl Updates for Kept {
        async fn take(&self, params: Value) {
            self.0.lock().unwrap().push(params);
        }
    }

    async fn read(input: &[u8]) -> (Vec<String>, usize, Arc<Counts>) {
        let (kept, counts) = (Arc::new(Kept::default()), Arc::new(Counts::default()));
        let stream = incoming(io::Cursor::new(input.to_vec()), Arc::clone(&kept), Arc::clone(&counts));
        let messages: Vec<_> = stream.filter_map(|line| async { line.ok() }).collect().await;
        let updates = kept.0.lock().unwrap().len();
        (messages, updates, counts)
    }

    #[tokio::test]
    async fn updates_messages_and_garbage_are_told_apart() {
        let input = b"npm warn old\r\n\n{\"id\":1,\"result\":{}}\r\n\xff\xfe\n{\"method\":\"session/update\",\"params\":{}}\n{\"id\":2}\n[1]\n{\"id\":3";
        let (messages, updates, counts) = read(input).await;
        assert_eq!(messages, ["{\"id\":1,\"result\":{}}", "{\"id\":2}"]);
        assert_eq!((updates, counts.garbage.load(Ordering::Relaxed)), (1, 3));
    }

    #[tokio::test]
    async fn a_line_without_end_costs_its_own_length_at_most_and_nothing_behind_it() {
        let mut input = vec![b'x'; 3 * LINE_BYTES_MAX];
        input.extend_from_slice(b"\n{\"id\":1}\n");
        let (messages, _, counts) = read(&input).await;
        assert_eq!(messages, ["{\"id\":1}"]);
        assert_eq!(counts.too_long.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn who_speaks_only_garbage_is_no_agent() {
        let kept = Arc::new(Kept::default());
        let input = "hello\n".repeat(GARBAGE_MAX as usize + 1);
        let stream = incoming(io::Cursor::new(input.into_bytes()), kept, Arc::default());
        let last = stream.collect::<Vec<_>>().await.pop().unwrap();
        assert!(last.unwrap_err().to_string().contains("is it an agent"));
    }

    #[tokio::test(start_paused = true)]
    async fn an_agent_that_does_not_read_is_noticed() {
        use futures::SinkExt;
        let (ours, _theirs) = tokio::io::duplex(8);
        let mut sink = Box::pin(outgoing(ours, Duration::from_secs(30)));
        let error = sink.send("x".repeat(100)).await.unwrap_err();
        assert!(error.to_string().contains("did not read its input for 30 s"), "{error}");
    }
}
