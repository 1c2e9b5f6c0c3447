//! A way to the real opencode that meddles with its event stream: keeps events back, garbles them, or falls silent.

use super::faulty_way::disguised;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::response::Response;
use eventsource_stream::Eventsource;
use futures::StreamExt;
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use tempfile::TempDir;
use tokio::sync::{mpsc, watch};

/// The proxy. Its tasks end with the test's runtime.
pub struct Meddler {
    /// To be run in opencode's place.
    pub program: PathBuf,
    way: Arc<Way>,
    _folder: TempDir,
}

struct Way {
    http: reqwest::Client,
    port_file: PathBuf,
    withheld: Mutex<Vec<&'static str>>,
    kept_back: AtomicU32,
    garbles: AtomicBool,
    mutes: watch::Sender<u32>,
    streams: AtomicU32,
}

impl Meddler {
    pub async fn to(opencode: &Path) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let folder = tempfile::tempdir().unwrap();
        let port_file = folder.path().join("port");
        let program = disguised(opencode, port, &port_file);
        let way = Arc::new(Way {
            http: reqwest::Client::builder().no_proxy().build().unwrap(),
            port_file,
            withheld: Mutex::default(),
            kept_back: AtomicU32::new(0),
            garbles: AtomicBool::new(false),
            mutes: watch::Sender::new(0),
            streams: AtomicU32::new(0),
        });
        let app = Router::new().fallback(carry).with_state(Arc::clone(&way));
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { program, way, _folder: folder }
    }

    /// Events of these kinds do not arrive any more.
    pub fn withhold(&self, kinds: &[&'static str]) {
        *self.way.withheld.lock().unwrap() = kinds.to_vec();
    }

    /// How many events were kept back.
    pub fn kept_back(&self) -> u32 {
        self.way.kept_back.load(Ordering::SeqCst)
    }

    /// From now on, or no longer: pieces of text and states come in a shape that nobody knows, among events that nobody
    /// knows, and lines that are no events.
    pub fn garble(&self, garbles: bool) {
        self.way.garbles.store(garbles, Ordering::SeqCst);
    }

    /// Every stream that is open now says nothing more and stays open.
    pub fn mute_streams(&self) {
        self.way.mutes.send_modify(|mutes| *mutes += 1);
    }

    /// How many streams were opened.
    pub fn streams(&self) -> u32 {
        self.way.streams.load(Ordering::SeqCst)
    }
}

async fn carry(State(way): State<Arc<Way>>, request: Request) -> Response {
    let port: u16 = fs::read_to_string(&way.port_file).unwrap().trim().parse().unwrap();
    let (head, body) = request.into_parts();
    let is_stream = head.uri.path() == "/global/event";
    let mut forward = way.http.request(head.method, format!("http://127.0.0.1:{port}{}", head.uri));
    for name in ["authorization", "content-type"] {
        if let Some(value) = head.headers.get(name) {
            forward = forward.header(name, value);
        }
    }
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
    let answer = forward.body(body).send().await.unwrap();
    let response = Response::builder().status(answer.status());
    if !is_stream {
        return response.body(Body::from(answer.bytes().await.unwrap())).unwrap();
    }
    way.streams.fetch_add(1, Ordering::SeqCst);
    let (lines, mut told) = mpsc::channel::<Result<Bytes, std::io::Error>>(64);
    tokio::spawn(meddle(answer, way, lines));
    let body = Body::from_stream(futures::stream::poll_fn(move |context| told.poll_recv(context)));
    response.header("content-type", "text/event-stream").body(body).unwrap()
}

async fn meddle(
    answer: reqwest::Response,
    way: Arc<Way>,
    lines: mpsc::Sender<Result<Bytes, std::io::Error>>,
) {
    let mut mutes = way.mutes.subscribe();
    let mut events = answer.bytes_stream().eventsource();
    loop {
        let event = tokio::select! {
            event = events.next() => event,
            _ = mutes.changed() => return lines.closed().await,
        };
        let Some(Ok(event)) = event else { return };
        let value: Value = serde_json::from_str(&event.data).unwrap();
        for value in way.meddled(value) {
            if lines.send(Ok(format!("data: {value}\n\n").into())).await.is_err() {
                return;
            }
        }
    }
}

impl Way {
    fn meddled(&self, mut value: Value) -> Vec<Value> {
        let kind = value["payload"]["type"].as_str().unwrap_or_default().to_owned();
        if self.withheld.lock().unwrap().contains(&kind.as_str()) {
            self.kept_back.fetch_add(1, Ordering::SeqCst);
            return Vec::new();
        }
        if !self.garbles.load(Ordering::SeqCst) {
            return vec![value];
        }
        if matches!(kind.as_str(), "message.part.delta" | "session.status" | "session.idle") {
            value["payload"]["properties"] = json!({ "version": 2, "contents": [kind] });
        }
        let unknown = json!({ "payload": { "type": "session.dreaming", "properties": { "of": "sheep" } } });
        vec![
            unknown,
            json!(["no", "event"]),
            value,
            json!({ "payload": { "type": null, "properties": null } }),
        ]
    }
}
