//! Plays one turn: steps in, events out, an ending. It remembers nothing beyond the turn.

use super::memory::{Answer, MemoryError, RunningTurn};
use super::script::Step;
use crate::backend::confined;
use crate::backend::{BackendError, TurnIo};
use crate::domain::failure::FailureReason;
use crate::domain::permission::{Access, PermissionDecision, PermissionKind, PermissionRequest};
use crate::domain::task::TaskSettings;
use crate::domain::turn::{PlanEntry, StopForce, ToolCall, ToolStatus, TurnEvent};
use crate::domain::usage::Usage;
use serde_json::{Value, json};
use std::future::Future;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Between two tokens of `CLOCK:n`.
const CLOCK_PAUSE: Duration = Duration::from_millis(40);
/// Between two tokens of `SLOW:n`.
const SLOW_PAUSE: Duration = Duration::from_millis(20);
/// The only model that the scripted agent has.
const MODEL: &str = "scripted-1";
/// Its modes; the first is the default.
const MODES: [&str; 2] = ["build", "plan"];

/// How a turn ended.
pub(super) enum Ending {
    Completed(Answer),
    /// The agent completed the turn and was lost before it could say so.
    LostAfterwards(Answer),
    Cancelled,
    Refused,
    Failed(BackendError),
}

/// What ends a turn before its last step.
enum Cut {
    Stopped,
    Refused,
    LostAfterwards,
    Failed(BackendError),
}

pub(super) struct Player<'a> {
    io: TurnIo,
    worktree: PathBuf,
    turn: &'a RunningTurn<'a>,
    disposed: &'a CancellationToken,
    output: String,
    usage: Usage,
    /// Tool calls and questions so far; their ids are made of it.
    calls: u32,
    /// A person refused: no tool runs any more.
    refused: bool,
}

impl<'a> Player<'a> {
    pub(super) fn new(
        io: TurnIo,
        worktree: PathBuf,
        turn: &'a RunningTurn<'a>,
        disposed: &'a CancellationToken,
    ) -> Self {
        let (output, usage) = (String::new(), Usage::default());
        Self { io, worktree, turn, disposed, output, usage, calls: 0, refused: false }
    }

    pub(super) async fn play(mut self, steps: Vec<Step>, settings: &TaskSettings) -> Ending {
        // An empty turn has used nothing either: that is what tells it from one that only wrote a file.
        if !steps.contains(&Step::Empty) {
            let words = self.turn.earlier().iter().map(|prompt| count(prompt)).sum::<i64>();
            self.usage.input_tokens = words + 1;
        }
        let cut = self.play_all(steps, settings).await.err();
        let answer = Answer { output: self.output, stop_reason: "end_turn".into(), usage: self.usage };
        match cut {
            None if answer.output.is_empty() && answer.usage.is_zero() => {
                let message = "the agent ended the turn without a word";
                Ending::Failed(BackendError::turn(FailureReason::EmptyTurn, message))
            }
            None => Ending::Completed(answer),
            Some(Cut::LostAfterwards) => Ending::LostAfterwards(answer),
            Some(Cut::Stopped) => Ending::Cancelled,
            Some(Cut::Refused) => Ending::Refused,
            Some(Cut::Failed(error)) => Ending::Failed(error),
        }
    }

    async fn play_all(&mut self, steps: Vec<Step>, settings: &TaskSettings) -> Result<(), Cut> {
        let late = steps.contains(&Step::CrashLate);
        self.notice_settings(settings).await?;
        for step in steps {
            self.play_one(step, settings).await?;
        }
        if !self.usage.is_zero() {
            self.emit(TurnEvent::Usage(self.usage)).await?;
        }
        if late { Err(Cut::LostAfterwards) } else { Ok(()) }
    }

    async fn play_one(&mut self, step: Step, settings: &TaskSettings) -> Result<(), Cut> {
        match step {
            Step::Say(text) => self.say(&text).await,
            Step::Think(text) => self.think(&text).await,
            Step::Plan(lines) => {
                let entry = |(content, status)| PlanEntry { content, status };
                self.emit(TurnEvent::Plan(lines.into_iter().map(entry).collect())).await
            }
            Step::Slow(tokens) => self.slow(tokens).await,
            Step::Clock(tokens) => self.clock(tokens).await,
            Step::SleepMs(n) => self.unless_stopped(tokio::time::sleep(Duration::from_millis(n))).await,
            Step::ToolWrite { path, content } => self.write(path, content).await,
            Step::Ask(title) => self.ask(&title).await,
            Step::Question(title) => self.question(&title).await,
            Step::Notice(text) => self.emit(TurnEvent::Notice(text)).await,
            Step::Retry(message) => self.emit(TurnEvent::Retry { attempt: 1, message }).await,
            Step::Fail { reason, tries, retry_after_secs } if self.still_fails(tries)? => {
                Err(Cut::Failed(failed(reason, retry_after_secs.map(Duration::from_secs))))
            }
            Step::Crash { tries } if self.still_fails(tries)? => {
                Err(Cut::Failed(BackendError::Lost("scripted crash".into())))
            }
            Step::Recall => self.say(&recall(self.turn.earlier())).await,
            Step::Settings => {
                let mode = settings.mode_id.as_deref().filter(|mode| MODES.contains(mode));
                self.say(&format!("model {MODEL}, mode {}", mode.unwrap_or(MODES[0]))).await
            }
            Step::Hang => self.unless_stopped(std::future::pending()).await,
            Step::HangDeaf => self.hang_until_terminated().await,
            Step::Refuse => Err(Cut::Refused),
            Step::Fail { .. } | Step::Crash { .. } | Step::CrashLate | Step::Empty => Ok(()),
        }
    }

    fn still_fails(&self, tries: Option<u32>) -> Result<bool, Cut> {
        match tries {
            None => Ok(true),
            Some(failing) => Ok(self.turn.tries()? <= failing),
        }
    }

    async fn say(&mut self, text: &str) -> Result<(), Cut> {
        for word in text.split_inclusive(' ') {
            self.text(word.to_owned()).await?;
        }
        Ok(())
    }

    async fn text(&mut self, word: String) -> Result<(), Cut> {
        self.usage.output_tokens += 1;
        self.output.push_str(&word);
        self.emit(TurnEvent::Text(word)).await
    }

    async fn think(&mut self, text: &str) -> Result<(), Cut> {
        for word in text.split_inclusive(' ') {
            self.usage.output_tokens += 1;
            self.usage.reasoning_tokens += 1;
            self.emit(TurnEvent::Reasoning(word.to_owned())).await?;
        }
        Ok(())
    }

    async fn clock(&mut self, tokens: u32) -> Result<(), Cut> {
        let begun = tokio::time::Instant::now();
        for token in 1..=tokens {
            let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
            self.text(format!("{} ", since.map_or(0, |since| since.as_micros()))).await?;
            self.unless_stopped(tokio::time::sleep_until(begun + CLOCK_PAUSE * token)).await?;
        }
        Ok(())
    }

    async fn slow(&mut self, tokens: u32) -> Result<(), Cut> {
        for i in 0..tokens {
            self.text(format!("tok{i} ")).await?;
            self.unless_stopped(tokio::time::sleep(SLOW_PAUSE)).await?;
        }
        Ok(())
    }

    async fn write(&mut self, path: PathBuf, content: String) -> Result<(), Cut> {
        self.usage.output_tokens += 1;
        let mut call = self.call(&path);
        self.emit(TurnEvent::ToolCall(call.clone())).await?;
        let (status, output) = if self.refused {
            (ToolStatus::Failed, "refused by a person".to_owned())
        } else {
            call.status = ToolStatus::Running;
            self.emit(TurnEvent::ToolUpdate(call.clone())).await?;
            match confined::write(&self.worktree, &path, &content) {
                Ok(()) => (ToolStatus::Completed, format!("{} bytes written", content.len())),
                Err(error) => (ToolStatus::Failed, error.to_string()),
            }
        };
        (call.status, call.output) = (status, Some(output));
        self.emit(TurnEvent::ToolUpdate(call)).await
    }

    fn call(&mut self, path: &Path) -> ToolCall {
        self.calls += 1;
        ToolCall {
            call_id: format!("call-{}", self.calls),
            tool: "write".into(),
            status: ToolStatus::Pending,
            title: Some(format!("write: {}", path.display())),
            input: Some(json!({"path": path.to_string_lossy()})),
            output: None,
            locations: Vec::new(),
            diffs: Vec::new(),
        }
    }

    async fn ask(&mut self, title: &str) -> Result<(), Cut> {
        if self.turn.is_always_allowed(title) {
            return self.say(&format!("allowed: {title} ")).await;
        }
        match self.decision(PermissionKind::Tool, title).await? {
            PermissionDecision::AllowOnce | PermissionDecision::Answers(_) => {}
            PermissionDecision::AllowAlways => self.turn.allow_always(title)?,
            PermissionDecision::Deny { .. } => {
                self.refused = true;
                return self.say(&format!("denied: {title} ")).await;
            }
        }
        self.say(&format!("allowed: {title} ")).await
    }

    async fn question(&mut self, title: &str) -> Result<(), Cut> {
        let said = match self.decision(PermissionKind::Question, title).await? {
            PermissionDecision::Answers(answers) => answers.concat().join(", "),
            PermissionDecision::AllowOnce | PermissionDecision::AllowAlways => "yes".to_owned(),
            PermissionDecision::Deny { .. } => "no answer".to_owned(),
        };
        self.say(&format!("answered: {said} ")).await
    }

    /// Asks, and waits for the answer to just this request. Nobody there to answer is a refusal.
    async fn decision(&mut self, kind: PermissionKind, title: &str) -> Result<PermissionDecision, Cut> {
        self.calls += 1;
        let id = format!("ask-{}", self.calls);
        let (agent_request_id, title) = (id.clone(), title.to_owned());
        let access = if title.starts_with("read ") { Access::Read } else { Access::Unknown };
        let payload = payload(&title);
        let request = PermissionRequest { agent_request_id, kind, access, payload, title };
        self.emit(TurnEvent::Permission(request)).await?;
        let Self { io, disposed, .. } = self;
        let answers = &mut io.answers;
        let answered = async {
            while let Some(answer) = answers.recv().await {
                if answer.agent_request_id == id {
                    return answer.decision;
                }
            }
            PermissionDecision::Deny { message: None }
        };
        unless_stopped(&mut io.stop, disposed, answered).await
    }

    async fn notice_settings(&mut self, settings: &TaskSettings) -> Result<(), Cut> {
        let model = settings.model.as_deref().filter(|model| *model != MODEL);
        let mode = settings.mode_id.as_deref().filter(|mode| !MODES.contains(mode));
        let thinking = settings.thinking_option_id.as_deref();
        for (what, wish) in [("model", model), ("mode", mode), ("thinking option", thinking)] {
            if let Some(wish) = wish {
                let notice =
                    format!("the scripted agent offers no {what} {wish:?}; it runs with its default");
                self.emit(TurnEvent::Notice(notice)).await?;
            }
        }
        Ok(())
    }

    /// A reader that is gone is a stop: there is nobody to tell.
    async fn emit(&mut self, event: TurnEvent) -> Result<(), Cut> {
        let Self { io, disposed, .. } = self;
        let sent = unless_stopped(&mut io.stop, disposed, io.events.send(event)).await?;
        sent.map_err(|_| Cut::Stopped)
    }

    async fn unless_stopped<T>(&mut self, work: impl Future<Output = T>) -> Result<T, Cut> {
        unless_stopped(&mut self.io.stop, self.disposed, work).await
    }

    async fn hang_until_terminated(&mut self) -> Result<(), Cut> {
        let terminated = |stop: &Option<_>| {
            stop.is_some_and(|stop: crate::domain::turn::Stop| stop.force >= StopForce::Terminate)
        };
        let stop = self.io.stop.wait_for(terminated);
        tokio::select! {
            stopped = stop => match stopped {
                Ok(_) => Err(Cut::Failed(BackendError::Lost("terminated, as it would not stop".into()))),
                Err(_) => Err(Cut::Stopped),
            },
            () = self.disposed.cancelled() => Err(disposed_of()),
        }
    }
}

/// The work's result, unless the turn is stopped first; a closed channel is a stop. `work` may be dropped at any await.
async fn unless_stopped<T>(
    stop: &mut tokio::sync::watch::Receiver<Option<crate::domain::turn::Stop>>,
    disposed: &CancellationToken,
    work: impl Future<Output = T>,
) -> Result<T, Cut> {
    tokio::select! {
        biased;
        () = disposed.cancelled() => Err(disposed_of()),
        _ = stop.wait_for(Option::is_some) => Err(Cut::Stopped),
        done = work => Ok(done),
    }
}

/// What it sends with a question. `bash: command` and `edit: path` say what they are for as opencode would.
fn payload(title: &str) -> Value {
    match title.split_once(": ") {
        Some(("bash", command)) => {
            json!({"title": title, "permission": "bash", "patterns": [command], "metadata": {"command": command}})
        }
        Some(("edit", path)) => json!({"title": title, "permission": "edit", "patterns": [path]}),
        _ => json!({"title": title}),
    }
}

fn disposed_of() -> Cut {
    Cut::Failed(BackendError::Lost("the backend was disposed of".into()))
}

fn failed(reason: FailureReason, retry_after: Option<Duration>) -> BackendError {
    let message = format!("scripted failure: {}", reason.as_str());
    match reason {
        FailureReason::SpawnFailed => BackendError::Spawn(message),
        FailureReason::AgentIncompatible => BackendError::Incompatible(message),
        FailureReason::AgentCrashed => BackendError::Lost(message),
        _ => BackendError::Turn { reason, message, retry_after },
    }
}

fn recall(earlier: &[String]) -> String {
    let cut: Vec<String> = earlier.iter().map(|prompt| prompt.chars().take(80).collect()).collect();
    format!("RECALL {} prior user turns: {}", cut.len(), cut.join(" | "))
}

fn count(text: &str) -> i64 {
    i64::try_from(text.split_whitespace().count()).unwrap_or(i64::MAX / 1_000)
}

impl From<MemoryError> for Cut {
    fn from(error: MemoryError) -> Self {
        Self::Failed(error.into())
    }
}
