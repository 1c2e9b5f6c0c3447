//! The same opencode server by plain HTTP, as a careful client without agentpool would use it: ids of its own, one event stream,
//! an end that is matched by the prompt's id.

use crate::support::node::PATIENCE;
use agentpool::wire::pool::PoolView;
use eventsource_stream::Eventsource;
use futures::StreamExt;
use reqwest::{Client, Method, RequestBuilder};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::fs;
use std::time::{Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::mpsc;

use super::stage::{Running, command_line};

/// The server that the pool has started.
#[derive(Clone)]
pub struct Server {
    http: Client,
    base: String,
    pub environment: HashMap<String, String>,
}

/// One event of the server's stream.
pub struct Heard {
    pub at: Instant,
    pub kind: String,
    pub properties: Value,
}

/// The server's event stream, read from the moment of the call on.
pub struct Ear {
    events: mpsc::UnboundedReceiver<Heard>,
}

impl Server {
    /// Finds it: the port is in the conversation's row, the password in the environment of its process.
    pub async fn of(running: &Running) -> Self {
        let query = "SELECT server_port FROM agentpool.agent_sessions WHERE status = 'idle' LIMIT 1";
        let port: i32 = running.database.sql().query_one(query, &[]).await.unwrap().get(0);
        let pool: PoolView = running.talk().get("/api/pool").await;
        let shims = pool.backends.into_iter().flat_map(|backend| backend.pids);
        let environment = shims
            .flat_map(tree)
            .map(environment)
            .find(|environment| environment.contains_key("OPENCODE_SERVER_PASSWORD"))
            .expect("the server's process is below its shim");
        let http = Client::builder().no_proxy().build().unwrap();
        Self { http, base: format!("http://127.0.0.1:{port}"), environment }
    }

    fn request(&self, method: Method, path: &str, directory: &str) -> RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.base));
        let request = request.basic_auth("opencode", self.environment.get("OPENCODE_SERVER_PASSWORD"));
        request.query(&[("directory", directory)])
    }

    pub async fn listen(&self) -> Ear {
        let request = self.request(Method::GET, "/global/event", "/");
        let mut stream =
            request.send().await.unwrap().error_for_status().unwrap().bytes_stream().eventsource();
        // As fast as it is read; a turn of the benchmark takes everything.
        let (tell, events) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Some(Ok(event)) = stream.next().await {
                let at = Instant::now();
                let mut event: Value = serde_json::from_str(&event.data).unwrap();
                let mut payload = event["payload"].take();
                let Some(kind) = payload["type"].as_str().map(str::to_owned) else { continue };
                if tell.send(Heard { at, kind, properties: payload["properties"].take() }).is_err() {
                    break;
                }
            }
        });
        Ear { events }
    }

    /// A conversation of our own in that directory.
    pub async fn open(&self, directory: &str) -> Conversation {
        let request = self.request(Method::POST, "/session", directory).json(&json!({ "title": "direct" }));
        let made: Value = request.send().await.unwrap().error_for_status().unwrap().json().await.unwrap();
        let id = made["id"].as_str().expect("it has an id").to_owned();
        Conversation { server: self.clone(), directory: directory.to_owned(), id, turns: 0 }
    }
}

impl Ear {
    /// What was heard and not taken yet.
    pub fn take(&mut self) -> Vec<Heard> {
        std::iter::from_fn(|| self.events.try_recv().ok()).collect()
    }

    /// What was heard until a prompt in that conversation was taken up and the conversation idle after it.
    pub async fn whole_turn(&mut self, session: &str) -> (Heard, Heard) {
        let hearing = async {
            let taken = loop {
                match self.next().await {
                    heard if heard.is_of(session) && heard.is_prompt() => break heard,
                    _ => {}
                }
            };
            loop {
                match self.next().await {
                    heard if heard.is_of(session) && heard.is_idle() => return (taken, heard),
                    _ => {}
                }
            }
        };
        tokio::time::timeout(PATIENCE, hearing).await.expect("the stream tells of the whole turn")
    }

    async fn next(&mut self) -> Heard {
        self.events.recv().await.expect("the server's stream goes on")
    }
}

impl Heard {
    /// It is of this conversation.
    pub fn is_of(&self, session: &str) -> bool {
        self.properties["sessionID"] == session
    }

    /// Its conversation has nothing more to do.
    pub fn is_idle(&self) -> bool {
        self.kind == "session.idle"
            || self.kind == "session.status" && self.properties["status"]["type"] == "idle"
    }

    /// A piece of an answer.
    pub fn delta(&self) -> Option<&str> {
        let is_one = self.kind == "message.part.delta" && self.properties["field"] == "text";
        self.properties["delta"].as_str().filter(|_| is_one)
    }

    /// The server has taken a prompt up.
    pub fn is_prompt(&self) -> bool {
        self.kind == "message.updated" && self.properties["info"]["role"] == "user"
    }

    fn answers(&self, message: &str) -> bool {
        let info = &self.properties["info"];
        self.kind == "message.updated"
            && info["parentID"] == message
            && info["time"]["completed"].is_number()
            && info["finish"] != "tool-calls"
    }
}

/// How long the parts of a turn took.
pub struct Took {
    pub hand_over_ms: f64,
    pub agent_ms: f64,
    pub all_ms: f64,
}

/// A conversation that agentpool knows nothing of.
pub struct Conversation {
    server: Server,
    directory: String,
    id: String,
    turns: u64,
}

impl Conversation {
    /// How long the two questions take that agentpool asks before each turn, in ms: is the conversation there, is it idle.
    pub async fn questions(&self) -> [f64; 2] {
        let ask = async |path: &str| {
            let begun = Instant::now();
            let request = self.server.request(Method::GET, path, &self.directory);
            let _: Value = request.send().await.unwrap().error_for_status().unwrap().json().await.unwrap();
            begun.elapsed().as_secs_f64() * 1e3
        };
        [ask(&format!("/session/{}", self.id)).await, ask("/session/status").await]
    }

    /// One turn, from the call to the end that the stream tells.
    pub async fn turn(&mut self, ear: &mut Ear, prompt: &str, answer: &str) -> Took {
        ear.take();
        self.turns += 1;
        let begun = Instant::now();
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        // Messages are sorted by id, and an id begins with the time.
        let number = format!("{:012x}{:014}", (since << 12) & 0xffff_ffff_ffff, self.turns);
        let message = format!("msg_{number}");
        let part = json!({ "id": format!("prt_{number}"), "type": "text", "text": prompt });
        let path = format!("/session/{}/prompt_async", self.id);
        let request = self.server.request(Method::POST, &path, &self.directory);
        let request = request.json(&json!({ "messageID": message, "parts": [part] }));
        request.send().await.unwrap().error_for_status().unwrap();
        let ended = async {
            let (mut said, mut answered, mut taken) = (String::new(), false, begun);
            loop {
                let heard = ear.next().await;
                if !heard.is_of(&self.id) {
                    continue;
                }
                said.push_str(heard.delta().unwrap_or_default());
                if heard.is_prompt() && heard.properties["info"]["id"] == message && taken == begun {
                    taken = heard.at;
                }
                answered |= heard.answers(&message);
                if answered && heard.is_idle() {
                    return (said, taken, heard.at);
                }
            }
        };
        let (said, taken, ended) =
            tokio::time::timeout(PATIENCE, ended).await.expect("the turn ends in time");
        assert_eq!(said, answer);
        let ms = |from: Instant, to: Instant| to.duration_since(from).as_secs_f64() * 1e3;
        Took { hand_over_ms: ms(begun, taken), agent_ms: ms(taken, ended), all_ms: ms(begun, ended) }
    }
}

/// A process and everything below it.
fn tree(root: u32) -> Vec<u32> {
    let mut found = vec![root];
    let mut at = 0;
    while let Some(pid) = found.get(at) {
        let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
        let children: Vec<u32> = threads
            .flat_map(|thread| fs::read_to_string(thread.path().join("children")))
            .flat_map(|line| line.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>())
            .collect();
        found.extend(children);
        at += 1;
    }
    found.retain(|pid| !command_line(*pid).is_empty());
    found
}

fn environment(pid: u32) -> HashMap<String, String> {
    let text = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    let text = String::from_utf8_lossy(&text).into_owned();
    let pair =
        |variable: &str| variable.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
    text.split('\0').filter_map(pair).collect()
}
