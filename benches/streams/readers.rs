//! Many sessions that are written and followed at once: how late each word is, what the service holds, what the log commits; then
//! readers that are cut off and come back, and readers that read nothing.

use crate::Effort;
use crate::figures::{Figure, Goal, Report, Samples};
use crate::support::cluster::fresh_database;
use crate::support::node::Talk;
use crate::support::serve::Place;
use agentpool::wire::api::{BatchView, NewSession, NewTask, NewTasks, SessionView};
use agentpool::wire::event::EventView;
use eventsource_stream::Eventsource;
use futures::StreamExt;
use nix::sys::signal::Signal;
use reqwest::{Method, StatusCode};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use uuid::Uuid;

pub async fn measure(effort: &Effort, report: &mut Report) {
    let database = fresh_database().await;
    let hands = effort.sessions.max(8);
    let place = Place::on(&database, &format!("hands = {hands}\n[agents.scripted]\nbackend = \"scripted\""));
    let served = place.serve().await;
    let talk = served.talk.clone();
    let pid = served.pid();
    let mut say = |what: String, value, unit, goal| report.figures.push(Figure::new(what, value, unit, goal));

    let sessions = sessions(&talk, effort.sessions).await;
    // Each warms its worktree first.
    run(&talk, &sessions, "SAY: warm").await;
    let sql = talk.sql().await;
    let commits = async || -> (i64, i64) {
        let query = "SELECT (SELECT count(DISTINCT created_at) FROM agentpool.task_messages), (SELECT count(*) FROM agentpool.task_messages)";
        let row = sql.query_one(query, &[]).await.unwrap();
        (row.get(0), row.get(1))
    };
    let (commits_before, rows_before) = commits().await;
    let begun = Instant::now();
    let late = follow_all(&talk, &sessions, effort.words).await;
    let secs = begun.elapsed().as_secs_f64();
    let resident = resident_mb(pid);
    let (commits, rows) = commits().await;
    let heard = late.0.len();
    say(
        format!("{} readers, {heard} words at {:.0} a second: median", effort.sessions, heard as f64 / secs),
        late.median(),
        "ms",
        Goal::None,
    );
    say("the same, 99th of 100".into(), late.at(0.99), "ms", Goal::AtMost(150.0));
    say("service's resident memory meanwhile".into(), resident, "MB", Goal::AtMost(150.0));
    // Rows of one commit carry one moment.
    say(
        format!("commits of the event log a second ({} rows)", rows - rows_before),
        (commits - commits_before) as f64 / secs,
        "",
        Goal::AtMost(40.0),
    );

    let (cuts, wrong) = cut_off(&talk, sessions[0], effort.cut_secs).await;
    say(
        format!("{cuts} readers cut off and resumed, 10 a second: sequences with a gap or a repeat"),
        wrong as f64,
        "",
        Goal::AtMost(0.0),
    );

    served.signal(Signal::SIGTERM);
    served.ended().await;
}

/// On a program of their own: what the others gave back would hide what these take.
pub async fn measure_stalled(effort: &Effort, report: &mut Report) {
    let database = fresh_database().await;
    let place = Place::on(&database, "[agents.scripted]\nbackend = \"scripted\"");
    let served = place.serve().await;
    let sessions = sessions(&served.talk, 8).await;
    let long = format!("SLOW:100\nSAY: {}", "twenty-five bytes of word ".repeat(8_000));
    run(&served.talk, &sessions, &long).await;
    let before = resident_mb(served.pid());
    let stalled = stalled(&served.talk, &sessions, effort.stalled).await;
    run(&served.talk, &sessions, &long).await;
    let more = resident_mb(served.pid()) - before;
    let what = format!("{} readers that read nothing: more memory", stalled.len());
    report.figures.push(Figure::new(what, more, "MB", Goal::AtMost(64.0)));
    drop(stalled);
    served.signal(Signal::SIGTERM);
    served.ended().await;
}

async fn sessions(talk: &Talk, count: usize) -> Vec<Uuid> {
    let mut sessions = Vec::new();
    for _ in 0..count {
        let path = Some(talk.project.display().to_string());
        let new = NewSession { path, ..NewSession::default() };
        let session: SessionView = talk.post("/api/sessions", &new, StatusCode::CREATED).await;
        sessions.push(session.id);
    }
    sessions
}

async fn begin(talk: &Talk, sessions: &[Uuid], prompt: &str) -> Vec<Uuid> {
    let task = |session: &Uuid| NewTask {
        session_id: *session,
        agent: "scripted".into(),
        prompt: prompt.into(),
        ..NewTask::default()
    };
    let tasks = NewTasks { tasks: sessions.iter().map(task).collect() };
    talk.post::<BatchView>("/api/tasks/batch", &tasks, StatusCode::CREATED).await.ids
}

async fn run(talk: &Talk, sessions: &[Uuid], prompt: &str) {
    for task in begin(talk, sessions, prompt).await {
        talk.follow(task, |_| false).await;
    }
}

/// Milliseconds that each word was late, over all sessions.
async fn follow_all(talk: &Talk, sessions: &[Uuid], words: usize) -> Samples {
    let mut readers = Vec::new();
    for task in begin(talk, sessions, &format!("CLOCK:{words}")).await {
        let talk = talk.clone();
        readers.push(tokio::spawn(async move {
            let answer =
                talk.request(Method::GET, &format!("/api/tasks/{task}/events")).send().await.unwrap();
            let mut events = answer.bytes_stream().eventsource();
            let mut late = Vec::new();
            while let Some(event) = events.next().await {
                let event = event.unwrap();
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros() as f64;
                match event.event.as_str() {
                    "message" => {
                        let view: EventView = serde_json::from_str(&event.data).unwrap();
                        if view.kind == "text" {
                            let said = view.content.unwrap_or_default();
                            late.extend(
                                said.split_whitespace().map(|at| (now - at.parse::<f64>().unwrap()) / 1e3),
                            );
                        }
                    }
                    "end" => break,
                    _ => {}
                }
            }
            late
        }));
    }
    let mut all = Samples::default();
    for reader in readers {
        all.0.extend(reader.await.unwrap());
    }
    all
}

/// Ten readers a second, each cut off after a moment and resumed from its cursor to the end of its turn. How many there were, and how
/// many did not see every event once and in order.
async fn cut_off(talk: &Talk, session: Uuid, secs: usize) -> (usize, usize) {
    let words = secs * 25;
    let task = begin(talk, &[session], &format!("CLOCK:{words}")).await[0];
    let path = format!("/api/tasks/{task}/events");
    let mut readers = Vec::new();
    for _ in 0..secs * 10 {
        let (talk, path) = (talk.clone(), path.clone());
        readers.push(tokio::spawn(async move { sequence(&talk, &path).await }));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    talk.follow(task, |_| false).await;
    let query = "SELECT max(seq) FROM agentpool.task_messages WHERE task_id = $1";
    let last: i64 = talk.sql().await.query_one(query, &[&task]).await.unwrap().get(0);
    let mut wrong = 0;
    let count = readers.len();
    for reader in readers {
        wrong += usize::from(reader.await.unwrap() != (1..=last).collect::<Vec<_>>());
    }
    (count, wrong)
}

/// The numbers that a reader saw which was cut off once, in the middle.
async fn sequence(talk: &Talk, path: &str) -> Vec<i64> {
    let mut seen = Vec::new();
    let mut cursor: Option<String> = None;
    loop {
        let request = talk.request(Method::GET, path);
        let request = cursor.iter().fold(request, |request, cursor| request.header("Last-Event-ID", cursor));
        let cut_at = cursor.is_none().then(|| Instant::now() + Duration::from_millis(700));
        let mut events = request.send().await.unwrap().bytes_stream().eventsource();
        while let Some(event) = events.next().await {
            let event = event.unwrap();
            match event.event.as_str() {
                "message" => {
                    seen.push(serde_json::from_str::<EventView>(&event.data).unwrap().seq);
                    cursor = Some(event.id);
                }
                "end" => return seen,
                _ => {}
            }
            if cursor.is_some() && cut_at.is_some_and(|at| Instant::now() >= at) {
                break;
            }
        }
    }
}

/// Connections that ask for a session's events and never read the answer.
async fn stalled(talk: &Talk, sessions: &[Uuid], count: usize) -> Vec<TcpStream> {
    let address = talk.url.strip_prefix("http://").unwrap();
    let mut open = Vec::new();
    for at in 0..count {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        // The kernel's own buffers are not the service's memory.
        socket.set_recv_buffer_size(4096).unwrap();
        let mut stream = socket.connect(address.parse().unwrap()).await.unwrap();
        let request = format!(
            "GET /api/sessions/{}/events HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {}\r\n\r\n",
            sessions[at % sessions.len()],
            talk.token
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        open.push(stream);
    }
    open
}

fn resident_mb(pid: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse::<f64>().unwrap() / 1024.0
}
