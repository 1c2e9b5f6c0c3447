//! Two sessions of three turns each, in parallel, streamed line by line as they happen.

use super::Say;
use super::stage::Stage;
use crate::cli::client::Client;
use crate::cli::follow::{Followed, Viewer, follow};
use crate::cli::output::{BOLD, DIM};
use crate::cli::transcript::Transcript;
use crate::cli::{CliError, output};
use crate::wire::api::{ChangeView, NewSession, NewTask, SessionView, TaskView};
use crate::wire::event::EventView;
use crate::wire::pool::PoolView;
use chrono::{DateTime, Utc};

/// What was played.
pub(super) struct Played {
    /// Each session's turns in order.
    pub(super) sessions: Vec<Vec<Turn>>,
    /// (agent, files changed).
    pub(super) changes: Vec<(String, usize)>,
    /// Resident memory of all agent processes after the last turn, in bytes.
    pub(super) resident_bytes: u64,
}

/// One turn's times.
pub(super) struct Turn {
    pub(super) task: TaskView,
    /// When the conversation was ready and the prompt went out.
    pub(super) prompted_at: Option<DateTime<Utc>>,
}

impl Played {
    pub(super) fn all_completed(&self) -> bool {
        self.sessions.iter().flatten().all(|turn| turn.task.status == "completed")
    }
}

pub(super) async fn play(
    agent: &str,
    stage: &Stage,
    url: &str,
    token: &str,
    say: Say,
) -> Result<Played, CliError> {
    let client = Client::at(url, token)?;
    let one = session(&client, agent, stage, "one", say).await?;
    let two = session(&client, agent, stage, "two", say).await?;
    let (first, second) = tokio::try_join!(
        turns(&client, agent, one.id, "one", say),
        turns(&client, agent, two.id, "two", say)
    )?;
    let mut changes = Vec::new();
    for session in [one.id, two.id] {
        changes.extend(client.get::<Vec<ChangeView>>(&format!("/api/sessions/{session}/changes")).await?);
    }
    let mut by_agent: Vec<(String, usize)> = Vec::new();
    for change in changes {
        match by_agent.iter_mut().find(|(agent, _)| *agent == change.agent) {
            Some((_, files)) => *files += 1,
            None => by_agent.push((change.agent, 1)),
        }
    }
    let pool: PoolView = client.get("/api/pool").await?;
    let resident_bytes = pool.backends.iter().map(|backend| backend.resident_bytes).sum();
    Ok(Played { sessions: vec![first, second], changes: by_agent, resident_bytes })
}

async fn session(
    client: &Client,
    agent: &str,
    stage: &Stage,
    name: &str,
    say: Say,
) -> Result<SessionView, CliError> {
    let path = Some(stage.repository.display().to_string());
    let new = NewSession { path, title: format!("demo {name}"), ..NewSession::default() };
    let session: SessionView = client.post("/api/sessions", &new).await?;
    say.line(&format!("session {name}: {} ({agent})", session.id))?;
    Ok(session)
}

fn prompts(name: &str) -> [String; 3] {
    [
        format!("TOOL:write hello-{name}.txt Written by session {name}"),
        format!("SAY: This is session {name}; the agent is warm now."),
        "RECALL".to_owned(),
    ]
}

async fn turns(
    client: &Client,
    agent: &str,
    session: uuid::Uuid,
    name: &str,
    say: Say,
) -> Result<Vec<Turn>, CliError> {
    let mut turns = Vec::new();
    for prompt in prompts(name) {
        let mut lines = Lines {
            prefix: format!("{DIM}[{name}]{DIM:#} "),
            say,
            transcript: Transcript::of_a_task(),
            open: Vec::new(),
            prompted_at: None,
        };
        lines.print(&format!("{BOLD}> {prompt}{BOLD:#}\n"))?;
        let new = NewTask { session_id: session, agent: agent.to_owned(), prompt, ..NewTask::default() };
        let task: TaskView = client.post("/api/tasks", &new).await?;
        let path = format!("/api/tasks/{}/events", task.id);
        match follow(client, &path, "agentpool demo", &mut lines).await? {
            Followed::Ended(end) => {
                let mut text = Vec::new();
                lines.transcript.end(&end, &mut text).map_err(CliError::Output)?;
                lines.write(&text)?;
            }
            // The demo's own handler drains the node.
            Followed::Interrupted => return Ok(turns),
        }
        let task = client.get(&format!("/api/tasks/{}", task.id)).await?;
        turns.push(Turn { task, prompted_at: lines.prompted_at });
    }
    Ok(turns)
}

/// Whole lines of one session, so that two can share a terminal.
struct Lines {
    prefix: String,
    say: Say,
    transcript: Transcript,
    open: Vec<u8>,
    prompted_at: Option<DateTime<Utc>>,
}

impl Viewer for Lines {
    async fn show(&mut self, event: &EventView) -> Result<(), CliError> {
        if event.kind == "turn_started" {
            self.prompted_at = Some(event.created_at);
        }
        let mut text = Vec::new();
        self.transcript.show(event, &mut text).map_err(CliError::Output)?;
        self.write(&text)
    }

    fn begin_again(&mut self) {
        self.transcript = Transcript::of_a_task();
    }
}

impl Lines {
    fn write(&mut self, text: &[u8]) -> Result<(), CliError> {
        self.open.extend_from_slice(text);
        while let Some(end) = self.open.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.open.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line);
            self.print(&line)?;
        }
        Ok(())
    }

    fn print(&self, line: &str) -> Result<(), CliError> {
        if self.say.quiet { Ok(()) } else { output::line(&format!("{}{}", self.prefix, line.trim_end())) }
    }
}
