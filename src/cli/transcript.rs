//! A task's events as a person reads them. Pure: an event in, text out. Shows no byte of an agent that was not cleaned.

use super::output::{BOLD, CYAN, DIM, GREEN, RED, YELLOW, one_line, status_style};
use crate::domain::text::for_terminal;
use crate::wire::api::{PermissionView, StreamEnd};
use crate::wire::event::EventView;
use serde_json::Value;
use std::collections::HashSet;
use std::io::{self, Write};
use uuid::Uuid;

/// Longest one-line item, in characters.
const LINE_CHARS_MAX: usize = 160;

/// What has been shown so far, as far as it decides how the next event looks.
#[derive(Default)]
pub(super) struct Transcript {
    /// The kind of words that the cursor stands behind in the middle of a line.
    within: Option<Words>,
    announced: HashSet<String>,
    /// With several tasks in one stream, each is introduced.
    introduces_tasks: bool,
    task: Option<Uuid>,
    tokens: (i64, i64),
    cost_usd: f64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Words {
    Text,
    Reasoning,
}

/// The event says that a question waits no longer, and not what is asked.
pub(super) fn is_resolved(event: &EventView) -> bool {
    event.input.as_ref().is_some_and(|input| input.get("status").is_some())
}

impl Transcript {
    /// Of one task.
    pub(super) fn of_a_task() -> Self {
        Self::default()
    }

    /// Of a session: tasks are told apart.
    pub(super) fn of_a_session() -> Self {
        Self { introduces_tasks: true, ..Self::default() }
    }

    /// Writes one event.
    pub(super) fn show(&mut self, event: &EventView, out: &mut impl Write) -> io::Result<()> {
        if self.introduces_tasks && self.task != Some(event.task_id) {
            let gap = if self.task.replace(event.task_id).is_some() { "\n" } else { "" };
            self.item(out, &format!("{gap}{BOLD}task {}{BOLD:#}", event.task_id))?;
        }
        let content = event.content.as_deref().unwrap_or_default();
        let short = one_line(content, LINE_CHARS_MAX);
        match event.kind.as_str() {
            "text" => self.words(out, Words::Text, content),
            "reasoning" => self.words(out, Words::Reasoning, content),
            "tool_call" | "tool_update" => self.tool(event, out),
            "turn_started" => self.turn_started(event, out),
            "turn_ended" => self.turn_ended(event, out),
            "plan" => self.plan(event, out),
            "usage" => {
                self.count(event);
                Ok(())
            }
            "permission" if is_resolved(event) => {
                self.item(out, &format!("{DIM}the question is {short}{DIM:#}"))
            }
            "permission" => self.item(out, &format!("{YELLOW}? {short}{YELLOW:#}")),
            "retry" => self.item(out, &format!("{YELLOW}the agent tries again: {short}{YELLOW:#}")),
            "notice" => self.item(out, &format!("{DIM}note: {short}{DIM:#}")),
            "mode_changed" => self.item(out, &format!("{DIM}mode: {short}{DIM:#}")),
            // A list of what could be typed is nothing that happened.
            "commands" => Ok(()),
            other => self.item(out, &format!("{DIM}{}: {short}{DIM:#}", one_line(other, 40))),
        }
    }

    /// Writes how a question can be answered, or that it needs no answer any more.
    pub(super) fn show_permission(
        &mut self,
        asked: &PermissionView,
        again: &str,
        out: &mut impl Write,
    ) -> io::Result<()> {
        if asked.status != "pending" {
            let by = asked.answered_by.as_deref().map(|by| format!(" by {by}")).unwrap_or_default();
            let outcome = one_line(&format!("{}{by}", asked.status), 80);
            return self.item(out, &format!("{DIM}  {outcome}{DIM:#}"));
        }
        for text in questions(&asked.payload) {
            self.item(out, &format!("  {}", one_line(&text, LINE_CHARS_MAX)))?;
        }
        let id = asked.id;
        let how = match asked.kind.as_str() {
            "question" | "elicitation" => "--answer TEXT",
            _ => "allow|always|deny",
        };
        self.item(
            out,
            &format!("{YELLOW}  answer with: agentpool permission answer {id} {how}{again}{YELLOW:#}"),
        )
    }

    /// Writes the last line.
    pub(super) fn end(&mut self, end: &StreamEnd, out: &mut impl Write) -> io::Result<()> {
        let style = status_style(&end.status);
        let reason = end.failure_reason.as_deref().map(|reason| format!(" ({reason})")).unwrap_or_default();
        let outcome = one_line(&format!("{}{reason}", end.status), 100);
        let error = end.error.as_deref().filter(|_| end.status != "completed");
        let error = error.map(|error| format!(": {}", one_line(error, 1000))).unwrap_or_default();
        let cost = match (self.tokens, self.cost_usd) {
            ((0, 0), _) => String::new(),
            ((read, written), 0.0) => format!("{DIM} · {read} tokens in, {written} out{DIM:#}"),
            ((read, written), cost) => format!("{DIM} · {read} tokens in, {written} out, ${cost:.4}{DIM:#}"),
        };
        self.item(out, &format!("{style}{outcome}{style:#}{error}{cost}"))
    }

    /// Closes an open line, so that something else can be written.
    pub(super) fn break_line(&mut self, out: &mut impl Write) -> io::Result<()> {
        match self.within.take() {
            Some(_) => writeln!(out),
            None => Ok(()),
        }
    }

    fn item(&mut self, out: &mut impl Write, text: &str) -> io::Result<()> {
        self.break_line(out)?;
        writeln!(out, "{text}")
    }

    fn words(&mut self, out: &mut impl Write, kind: Words, text: &str) -> io::Result<()> {
        if text.is_empty() {
            return Ok(());
        }
        if self.within.is_some_and(|open| open != kind) {
            self.break_line(out)?;
        }
        let clean = for_terminal(text);
        match kind {
            Words::Text => write!(out, "{clean}")?,
            Words::Reasoning => write!(out, "{DIM}{clean}{DIM:#}")?,
        }
        self.within = (!clean.ends_with('\n')).then_some(kind);
        out.flush()
    }

    /// One line a call, as soon as there is something to say of it; another one when it failed.
    fn tool(&mut self, event: &EventView, out: &mut impl Write) -> io::Result<()> {
        let input = event.input.as_ref().unwrap_or(&Value::Null);
        let call = input["call_id"].as_str().unwrap_or_default();
        let status = input["status"].as_str().unwrap_or_default();
        let tool = one_line(event.tool.as_deref().unwrap_or("tool"), 40);
        let about = event.content.clone().or_else(|| summary(&input["input"]));
        let speaks = about.is_some() || status != "pending";
        if speaks && self.announced.insert(call.to_owned()) {
            let about = one_line(about.as_deref().unwrap_or_default(), LINE_CHARS_MAX);
            // Some titles repeat the name before a colon.
            let about = about.strip_prefix(&format!("{tool}: ")).unwrap_or(&about);
            self.item(out, &format!("{CYAN}→ {tool}{CYAN:#} {about}"))?;
        }
        if status == "failed" {
            let why = one_line(event.output.as_deref().unwrap_or("it failed"), LINE_CHARS_MAX);
            self.item(out, &format!("{RED}✗ {tool}{RED:#} {why}"))?;
        }
        Ok(())
    }

    fn turn_started(&mut self, event: &EventView, out: &mut impl Write) -> io::Result<()> {
        let word = |key: &str| event.input.as_ref().and_then(|input| input[key].as_str());
        let attempt = event.input.as_ref().and_then(|input| input["attempt"].as_i64()).unwrap_or(1);
        let try_number = if attempt > 1 { format!(", attempt {attempt}") } else { String::new() };
        let agent = one_line(word("agent").unwrap_or("the agent"), 64);
        let conversation = one_line(word("conversation").unwrap_or_default(), 40);
        self.item(out, &format!("{DIM}· {agent} begins ({conversation} conversation{try_number}){DIM:#}"))
    }

    fn turn_ended(&mut self, event: &EventView, out: &mut impl Write) -> io::Result<()> {
        match event.content.as_deref() {
            Some("queued") => {
                let reason = event.input.as_ref().and_then(|input| input["reason"].as_str());
                let reason = one_line(reason.unwrap_or("interrupted"), 60);
                self.item(
                    out,
                    &format!("{YELLOW}· the turn ended ({reason}); it will be tried again{YELLOW:#}"),
                )
            }
            // The end of the stream says it, with the task's own words.
            _ => self.break_line(out),
        }
    }

    fn plan(&mut self, event: &EventView, out: &mut impl Write) -> io::Result<()> {
        for entry in event.input.as_ref().and_then(Value::as_array).into_iter().flatten() {
            let content = one_line(entry["content"].as_str().unwrap_or_default(), LINE_CHARS_MAX);
            let line = match entry["status"].as_str() {
                Some("completed") => format!("{GREEN}  ☑ {content}{GREEN:#}"),
                Some("in_progress") => format!("  ▸ {content}"),
                _ => format!("{DIM}  ☐ {content}{DIM:#}"),
            };
            self.item(out, &line)?;
        }
        Ok(())
    }

    fn count(&mut self, event: &EventView) {
        let number = |key: &str| event.input.as_ref().and_then(|input| input[key].as_i64()).unwrap_or(0);
        self.tokens.0 += number("input_tokens") + number("cache_read_tokens") + number("cache_write_tokens");
        self.tokens.1 += number("output_tokens");
        self.cost_usd += event.input.as_ref().and_then(|input| input["cost_usd"].as_f64()).unwrap_or(0.0);
    }
}

/// The argument of a call that says most.
fn summary(input: &Value) -> Option<String> {
    let telling = ["command", "filePath", "file_path", "path", "pattern", "url", "query", "description"];
    telling.iter().find_map(|key| input[key].as_str()).map(str::to_owned)
}

/// What is asked, when the payload has questions with options.
fn questions(payload: &Value) -> Vec<String> {
    let questions = payload["questions"].as_array().map(Vec::as_slice).unwrap_or_default();
    questions
        .iter()
        .map(|question| {
            let labels = question["options"].as_array().into_iter().flatten();
            let labels: Vec<&str> = labels.filter_map(|option| option["label"].as_str()).collect();
            let text = question["question"].as_str().unwrap_or_default();
            if labels.is_empty() { text.to_owned() } else { format!("{text} [{}]", labels.join(" | ")) }
        })
        .collect()
}

#[cfg(test)]
mod tests;
