//! How long an agent's words take from its own stream to the standard output of `submit --follow`, matched by what they say.

use super::direct::{Ear, Server};
use super::figures::{Figure, Goal, Report, Samples};
use super::stage::{AGENT, Running, Stage};
use crate::support::node::PATIENCE;
use crate::support::shims::agentpool;
use std::process::Stdio;
use std::time::Instant;
use tokio::io::AsyncReadExt;
use tokio::process::Command;
use uuid::Uuid;

/// Longest that a word may take, for 99 of 100.
const LATE_MS_MAX: f64 = 100.0;

/// In a warm session. The model says `words` words, one each 5 ms, in each of `streams` answers.
pub async fn measure(
    stage: &Stage,
    running: &Running,
    session: Uuid,
    (streams, words): (usize, usize),
    report: &mut Report,
) {
    let server = Server::of(running).await;
    let query = "SELECT agent_session_id FROM agentpool.agent_sessions WHERE session_id = $1";
    let agent_session: String = running.database.sql().query_one(query, &[&session]).await.unwrap().get(0);
    let mut ear = server.listen().await;
    let mut late = Samples::default();
    for stream in 0..streams {
        let said: Vec<String> = (0..words).map(|word| format!("s{stream}w{word:04}")).collect();
        let said = said.join(" ");
        ear.take();
        let printed = follow(stage, running, session, &said).await;
        late.0.extend(lateness(&mut ear, &agent_session, &said, &printed));
    }
    let words = late.0.len();
    let mut say = |what: String, value, goal| report.figures.push(Figure::new(what, value, "ms", goal));
    say(
        format!("agent's stream to stdout of submit --follow, {words} deltas, median"),
        late.median(),
        Goal::None,
    );
    say("the same, 99th of 100".into(), late.at(0.99), Goal::AtMost(LATE_MS_MAX));
}

/// What a command wrote, and when each piece of it was there.
struct Printed {
    text: String,
    /// Length of the text after each piece.
    pieces: Vec<(usize, Instant)>,
}

async fn follow(stage: &Stage, running: &Running, session: Uuid, said: &str) -> Printed {
    let mut command = Command::new(agentpool())
        .args(["submit", "--follow", "--session", &session.to_string(), "--agent", AGENT])
        .args(["--url", &running.talk().url, &format!("SAY: {said}")])
        .arg("--token-file")
        .arg(stage.place.data().join("token"))
        .arg("--config")
        .arg(stage.place.folder.path().join("agentpool.toml"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut stdout = command.stdout.take().expect("it is piped");
    let reading = async {
        let (mut bytes, mut pieces, mut buffer) = (Vec::new(), Vec::new(), [0; 16 << 10]);
        loop {
            let read = stdout.read(&mut buffer).await.unwrap();
            if read == 0 {
                break;
            }
            bytes.extend_from_slice(&buffer[..read]);
            pieces.push((bytes.len(), Instant::now()));
        }
        assert!(
            command.wait().await.unwrap().success(),
            "submit --follow: {:?}",
            String::from_utf8_lossy(&bytes)
        );
        Printed { text: String::from_utf8(bytes).expect("it writes UTF-8"), pieces }
    };
    tokio::time::timeout(PATIENCE, reading).await.expect("it ends in time")
}

/// For each piece that the agent sent: how much later its last byte was printed, in ms.
fn lateness(ear: &mut Ear, agent_session: &str, said: &str, printed: &Printed) -> Vec<f64> {
    let begins = printed.text.find(said).expect("the whole answer was printed");
    let mut sent = String::new();
    let mut late = Vec::new();
    for heard in ear.take().into_iter().filter(|heard| heard.is_of(agent_session)) {
        let Some(delta) = heard.delta() else { continue };
        sent.push_str(delta);
        let end = begins + sent.len();
        let piece = printed.pieces.iter().find(|(length, _)| *length >= end);
        let (_, at) = piece.expect("all that was sent was printed");
        late.push(at.saturating_duration_since(heard.at).as_secs_f64() * 1e3);
    }
    assert_eq!(sent, said);
    late
}
