//! One turn: the directives of its prompt one after another, until they are through or something cuts them off.

use crate::agent::{Agent, answer, told};
use crate::directives::{self, number};
use crate::misdeeds;
use crate::provider;
use crate::session::{Session, locked};
use agent_client_protocol::v1::schema::{
    AvailableCommand, AvailableCommandsUpdate, ContentBlock, ContentChunk, Cost, CurrentModeUpdate, Plan,
    PlanEntry, PlanEntryPriority, PlanEntryStatus, PromptResponse, SessionInfoUpdate, SessionUpdate,
    StopReason, Usage, UsageUpdate,
};
use agent_client_protocol::{Client, ConnectionTo, Error, Responder};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// Between two tokens of `SLOW:n`.
const TOKEN: Duration = Duration::from_millis(20);
/// Until a word that comes after the turn's answer.
const AFTER: Duration = Duration::from_millis(200);

pub struct Turn {
    pub(crate) agent: Arc<Agent>,
    pub(crate) session: Arc<Session>,
    pub(crate) client: ConnectionTo<Client>,
    /// Tool calls so far.
    pub(crate) calls: u32,
    prompt: String,
    cancels: watch::Receiver<u64>,
    /// Which cancel is heeded; `None`: no one.
    heeded: Option<u64>,
    said: String,
    late_cancel: Duration,
    after_cancel: Option<String>,
    after_end: Option<String>,
    twice: bool,
    /// Neither usage nor title is told.
    silent: bool,
}

/// Why a turn does not go on.
pub enum Cut {
    Cancelled,
    /// It ends with this word.
    Stop(&'static str),
    Failed(Error),
    /// It is never answered.
    Never,
}

impl Turn {
    pub fn new(
        agent: Arc<Agent>,
        session: Arc<Session>,
        client: ConnectionTo<Client>,
        prompt: String,
        cancels: watch::Receiver<u64>,
    ) -> Self {
        let lost = agent.faults.number("lose_cancel").unwrap_or(0);
        let heeded = (!agent.faults.has("ignore_cancel")).then_some(lost + 1);
        Self {
            agent,
            session,
            client,
            calls: 0,
            prompt,
            cancels,
            heeded,
            said: String::new(),
            late_cancel: Duration::ZERO,
            after_cancel: None,
            after_end: None,
            twice: false,
            silent: false,
        }
    }

    pub async fn run(mut self, responder: Responder<Value>) {
        if let Some(wait) = self.agent.faults.number("slow_prompt") {
            tokio::time::sleep(Duration::from_millis(wait)).await;
        }
        let end = self.play().await;
        let result = match end {
            Ok(()) => Ok(self.completed("end_turn")),
            Err(Cut::Stop(word)) => Ok(self.completed(word)),
            Err(Cut::Failed(error)) => Err(error),
            Err(Cut::Cancelled) if !self.agent.faults.has("hang_cancel") => {
                tokio::time::sleep(self.late_cancel).await;
                Ok(told(PromptResponse::new(StopReason::Cancelled)))
            }
            Err(Cut::Cancelled | Cut::Never) => {
                // Dropped, it would be answered with an error.
                return std::mem::forget(responder);
            }
        };
        let cancelled = result.as_ref().is_ok_and(|value| value["stopReason"] == "cancelled");
        let again = self.twice.then(|| match &result {
            Ok(value) => json!({"jsonrpc": "2.0", "id": told(responder.raw_id()), "result": value}),
            Err(error) => json!({"jsonrpc": "2.0", "id": told(responder.raw_id()), "error": told(error)}),
        });
        self.session.end(std::mem::take(&mut self.said), &self.agent.store);
        answer(responder, result);
        let late = if cancelled { self.after_cancel.take() } else { None }.or(self.after_end.take());
        if again.is_some() || late.is_some() {
            tokio::time::sleep(AFTER).await;
        }
        if let Some(again) = again {
            self.agent.out.value(&again);
        }
        if let Some(text) = late {
            self.agent.out.update(&self.session.id, message(&text));
        }
    }

    async fn play(&mut self) -> Result<(), Cut> {
        let directives = directives::of(&self.prompt);
        if directives.is_empty() {
            let echo = format!("echo: {}", directives::without_the_retold(&self.prompt).trim());
            self.say(&echo);
        }
        for (mark, rest) in directives {
            if self.is_cancelled() {
                return Err(Cut::Cancelled);
            }
            self.step(mark, &rest).await?;
        }
        Ok(())
    }

    async fn step(&mut self, mark: &str, rest: &str) -> Result<(), Cut> {
        let rest_of = || rest.trim_start_matches(':').trim();
        match mark {
            "SAY:" => self.say(rest),
            "THINK:" => self.tell(SessionUpdate::AgentThoughtChunk(ContentChunk::new(rest.into()))),
            "SLOW:" => {
                for n in 0..number(rest) {
                    self.say(&format!("tok{n} "));
                    self.unless_cancelled(tokio::time::sleep(TOKEN)).await?;
                }
            }
            "SLEEP:" => {
                self.unless_cancelled(tokio::time::sleep(Duration::from_millis(number(rest)))).await?
            }
            "RECALL" => {
                let earlier = self.session.earlier();
                self.say(&format!("RECALL {} prior user turns: {}", earlier.len(), earlier.join(" | ")));
            }
            "SETTINGS" => {
                let settings = locked(&self.session.settings).told();
                self.say(&settings);
            }
            "TOOL:write " => self.tool_write(rest).await?,
            "TOOL:read " => self.tool_read(rest).await?,
            "CLIENT:write " => self.client_write(rest).await?,
            "CLIENT:read " => self.client_read(rest).await?,
            "TERMINAL:" => self.terminal(rest).await?,
            "PLAN" => self.tell(plan()),
            "COMMANDS" => self.tell(commands()),
            "MODE:" => {
                locked(&self.session.settings).set_mode(rest);
                self.tell(SessionUpdate::CurrentModeUpdate(CurrentModeUpdate::new(rest.to_owned())));
            }
            "TITLE:" => self.title(rest),
            "ENV " => {
                let told = std::env::var(rest).unwrap_or_else(|_| format!("{rest} is unset"));
                self.say(&told);
            }
            "PID" => self.say(&std::process::id().to_string()),
            "CWD" => {
                let cwd = locked(&self.session.conversation).cwd.display().to_string();
                self.say(&cwd);
            }
            "MCP" => {
                let servers = format!("mcp: {}", self.session.mcp_servers.join(" "));
                self.say(&servers);
            }
            "EMPTY" => self.silent = true,
            "REFUSE" => return Err(Cut::Stop("refusal")),
            "TRUNCATED" => return Err(Cut::Stop("max_tokens")),
            "UNKNOWN_STOP" => return Err(Cut::Stop("went_fishing")),
            "FAIL:" => self.fail(rest)?,
            "TEXT_ERROR:" => {
                self.silent = true;
                self.say(&provider::text(rest));
            }
            "HANG" if rest_of().starts_with("deaf") => return Err(Cut::Never),
            "HANG" => self.unless_cancelled(std::future::pending()).await?,
            "IGNORE_CANCEL" => self.heeded = None,
            "LOSE_CANCEL:" => self.heeded = Some(number(rest) + 1),
            "LATE_CANCEL:" => self.late_cancel = Duration::from_millis(number(rest)),
            "AFTER_CANCEL:" => self.after_cancel = Some(rest.to_owned()),
            "AFTER_END:" => self.after_end = Some(rest.to_owned()),
            "TWICE" => self.twice = true,
            "FLOOD:" => {
                for n in 0..number(rest) {
                    self.say(&format!("f{n} "));
                    if n % 64 == 0 {
                        // The rest of the agent goes on, and hears of cancels.
                        self.unless_cancelled(tokio::task::yield_now()).await?;
                    }
                }
            }
            "CRLF:" => {
                self.said.push_str(rest);
                misdeeds::crlf(&self.agent.out, &self.session.id, message(rest));
            }
            "GRANDCHILDREN:" => {
                let pids = misdeeds::grandchildren(number(rest));
                self.say(&format!("grandchildren: {}", pids.join(" ")));
            }
            _ => misdeeds::commit(&self.agent, &self.session.id, mark, rest_of()),
        }
        Ok(())
    }

    /// `what`, or `whatxN`: only the first N times that this prompt came.
    fn fail(&self, rest: &str) -> Result<(), Cut> {
        let whole = rest.split_whitespace().next().unwrap_or_default();
        let (what, times) = match whole.rsplit_once('x').map(|(what, n)| (what, n.parse::<usize>())) {
            Some((what, Ok(n))) => (what, n),
            _ => (whole, usize::MAX),
        };
        let asked = directives::without_the_retold(&self.prompt);
        let before = self
            .session
            .earlier()
            .iter()
            .filter(|earlier| directives::without_the_retold(earlier).trim() == asked.trim())
            .count();
        if before < times { Err(Cut::Failed(provider::error(what))) } else { Ok(()) }
    }

    pub(crate) fn say(&mut self, text: &str) {
        self.said.push_str(text);
        self.tell(message(text));
    }

    pub(crate) fn tell(&self, update: SessionUpdate) {
        self.agent.out.update(&self.session.id, update);
    }

    /// The work's result, unless the turn is cancelled first. `work` may be dropped at any await.
    pub(crate) async fn unless_cancelled<T>(&mut self, work: impl Future<Output = T>) -> Result<T, Cut> {
        let heeded = self.heeded;
        let cancelled = async {
            match heeded {
                Some(nth) if self.cancels.wait_for(|n| *n >= nth).await.is_ok() => {}
                _ => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = cancelled => Err(Cut::Cancelled),
            done = work => Ok(done),
        }
    }

    fn is_cancelled(&self) -> bool {
        self.heeded.is_some_and(|nth| *self.cancels.borrow() >= nth)
    }

    fn title(&self, title: &str) {
        locked(&self.session.conversation).title = Some(title.to_owned());
        self.tell(SessionUpdate::SessionInfoUpdate(SessionInfoUpdate::new().title(title.to_owned())));
    }

    /// The answer to the prompt. Tokens are words: those of all prompts so far in, those said out.
    fn completed(&self, word: &str) -> Value {
        let mut response = PromptResponse::new(StopReason::EndTurn);
        if !self.silent {
            let asked: usize = self.session.earlier().iter().map(|prompt| words(prompt)).sum();
            let (input, output) = ((asked + words(&self.prompt)) as u64, words(&self.said) as u64);
            if self.session.earlier().is_empty() {
                let title: String = self.prompt.lines().next().unwrap_or_default().chars().take(40).collect();
                self.title(&title);
            }
            let cost = Cost::new(0.001, "USD");
            self.tell(SessionUpdate::UsageUpdate(UsageUpdate::new(input + output, 200_000).cost(cost)));
            response = response.usage(Usage::new(input + output, input, output));
        }
        let mut value = told(response);
        value["stopReason"] = json!(word);
        value
    }
}

/// The text blocks of a prompt, one after another.
pub fn text(blocks: &[ContentBlock]) -> String {
    let texts: Vec<&str> = blocks
        .iter()
        .filter_map(|block| match block {
            ContentBlock::Text(text) => Some(text.text.as_str()),
            _ => None,
        })
        .collect();
    texts.join("\n")
}

pub fn message(text: &str) -> SessionUpdate {
    SessionUpdate::AgentMessageChunk(ContentChunk::new(text.into()))
}

pub fn commands() -> SessionUpdate {
    let command = |name: &str| AvailableCommand::new(name, format!("does {name}"));
    SessionUpdate::AvailableCommandsUpdate(AvailableCommandsUpdate::new(vec![
        command("init"),
        command("review"),
    ]))
}

fn plan() -> SessionUpdate {
    let entry = |what: &str, status| PlanEntry::new(what, PlanEntryPriority::Medium, status);
    SessionUpdate::Plan(Plan::new(vec![
        entry("look", PlanEntryStatus::Completed),
        entry("change", PlanEntryStatus::InProgress),
        entry("test", PlanEntryStatus::Pending),
    ]))
}

fn words(text: &str) -> usize {
    text.split_whitespace().count()
}
