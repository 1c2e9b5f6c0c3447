//! Lines out and lines in. Everything that leaves goes through one lock, so that a raw line never lands within another.
//! Knows no message.

use agent_client_protocol::v1::schema::{SessionNotification, SessionUpdate};
use futures::channel::mpsc;
use futures::{Sink, Stream, sink};
use serde_json::{Value, json};
use std::io::{self, BufRead, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

/// Lines that wait for the connection: what comes faster waits in the pipe.
const LINES_MAX: usize = 64;

/// Standard output. Cheap to clone.
#[derive(Clone)]
pub struct Out(Arc<Mutex<io::Stdout>>);

impl Out {
    pub fn new() -> Self {
        Self(Arc::new(Mutex::new(io::stdout())))
    }

    /// Bytes as they are. A reader that is gone is nobody to tell.
    pub fn bytes(&self, bytes: &[u8]) {
        let mut out = self.0.lock().expect("no writer panics");
        let _ = out.write_all(bytes).and_then(|()| out.flush());
    }

    pub fn line(&self, line: &str) {
        self.bytes(format!("{line}\n").as_bytes());
    }

    /// Any JSON as one line.
    pub fn value(&self, value: &Value) {
        self.line(&value.to_string());
    }

    /// An update of a session.
    pub fn update(&self, session: &str, update: SessionUpdate) {
        let params = SessionNotification::new(session.to_owned(), update);
        self.value(&json!({"jsonrpc": "2.0", "method": "session/update", "params": params}));
    }

    /// The way out for the crate.
    pub fn sink(&self) -> impl Sink<String, Error = io::Error> + Send + 'static {
        sink::unfold(self.clone(), |out, line: String| async move {
            out.line(&line);
            Ok(out)
        })
    }
}

/// Says when standard input is no longer read.
#[derive(Clone, Default)]
pub struct Ears(Arc<AtomicBool>);

impl Ears {
    pub fn close(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    /// Standard input by lines. At its end the stream ends, or goes on for ever where that is asked.
    pub fn lines(&self, stay: bool) -> impl Stream<Item = io::Result<String>> + Send + 'static {
        let (mut tell, told) = mpsc::channel(LINES_MAX);
        let closed = self.0.clone();
        std::thread::spawn(move || {
            for line in io::stdin().lock().lines() {
                while closed.load(Ordering::SeqCst) {
                    std::thread::park();
                }
                if futures::executor::block_on(futures::SinkExt::send(&mut tell, line)).is_err() {
                    return;
                }
            }
            if stay {
                loop {
                    std::thread::park();
                }
            }
        });
        told
    }
}
