//! One turn as seen from opencode's facts: a pure state that takes events and histories alike and says what is new.
//! Feeding it the same fact twice adds nothing, so live stream, reconnect and replay are one path. No I/O, no clock.

use super::event::Event;
use super::failure;
use super::parts::{rank, say, tool_call, usage};
use super::wire::{AgentError, Message, MessageInfo, Part, PermissionAsked, QuestionAsked, Status};
use crate::domain::permission::{Access, PermissionKind, PermissionRequest};
use crate::domain::turn::{PlanEntry, ToolCall, TurnEvent};
use crate::domain::usage::Usage;
use std::collections::{BTreeMap, HashMap, HashSet};

/// What is known of a running turn.
#[derive(Debug)]
pub(super) struct TurnView {
    session: String,
    /// Our message: what begins the turn.
    prompt_id: String,
    /// Sessions of subagents, at any depth.
    children: HashSet<String>,
    /// Assistant messages of the turn. Ids sort by time: the last one decides.
    answers: BTreeMap<String, MessageInfo>,
    texts: HashMap<String, Spoken>,
    tools: HashMap<String, ToolCall>,
    counted_steps: HashSet<String>,
    asked: HashMap<String, Asked>,
    last_retry: Option<Status>,
    agent: Option<String>,
    error: Option<AgentError>,
    usage: Usage,
    said_something: bool,
}

/// A part of text, and how much of it has gone out.
#[derive(Debug)]
struct Spoken {
    reasoning: bool,
    sent: String,
    /// Pieces may have been missed: nothing more goes out before the whole text is told.
    gap: bool,
    done: bool,
}

/// An open or answered request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Asked {
    /// A tool wants to run.
    Permission,
    /// So many questions.
    Question { count: usize },
}

/// What the last answer says of the turn.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Standing {
    /// No answer of this turn was seen.
    NotBegun,
    /// An answer is being written, or a tool's result will be answered.
    Underway,
    /// The last answer is whole, yet opencode meant to go on (`tool-calls`); over only if the session is idle.
    Paused { finish: String },
    /// The last answer is whole and final.
    Finished { finish: String },
    /// The last answer failed.
    Failed(AgentError),
}

impl TurnView {
    /// A turn that begins with that message in that conversation.
    pub fn new(session: &str, prompt_id: &str) -> Self {
        Self {
            session: session.to_owned(),
            prompt_id: prompt_id.to_owned(),
            children: HashSet::new(),
            answers: BTreeMap::new(),
            texts: HashMap::new(),
            tools: HashMap::new(),
            counted_steps: HashSet::new(),
            asked: HashMap::new(),
            last_retry: None,
            agent: None,
            error: None,
            usage: Usage::default(),
            said_something: false,
        }
    }

    /// Takes one event of the stream.
    pub fn apply(&mut self, event: &Event) -> Vec<TurnEvent> {
        let ours = event.session() == Some(self.session.as_str());
        let childs = event.session().is_some_and(|session| self.children.contains(session));
        match event {
            Event::Created(session) => {
                self.adopt(&session.id, session.parent_id.as_deref());
                Vec::new()
            }
            Event::Permission(asked) if ours || childs => self.permission(asked),
            Event::Question(asked) if ours || childs => self.question(asked),
            Event::Part(part) if childs => self.child_part(part),
            Event::Message(info) if ours => self.message(info),
            Event::Part(part) if ours => self.part(part),
            Event::Delta(delta) if ours && delta.field == "text" => {
                self.delta(&delta.message_id, &delta.part_id, &delta.delta)
            }
            Event::Status { status, .. } if ours => self.status(status),
            Event::Error { error, .. } if ours => {
                // The first word is the plain one; opencode repeats some errors with a stack.
                self.error.get_or_insert_with(|| error.clone());
                Vec::new()
            }
            Event::Todos { todos, .. } if ours => vec![TurnEvent::Plan(
                todos
                    .iter()
                    .map(|todo| PlanEntry { content: todo.content.clone(), status: todo.status.clone() })
                    .collect(),
            )],
            Event::Compacted { .. } if ours => {
                vec![TurnEvent::Notice("opencode shortened the conversation to make room".to_owned())]
            }
            Event::Alive
            | Event::Message(_)
            | Event::Part(_)
            | Event::Delta(_)
            | Event::Status { .. }
            | Event::Idle { .. }
            | Event::Error { .. }
            | Event::Permission(_)
            | Event::Question(_)
            | Event::Todos { .. }
            | Event::Compacted { .. }
            | Event::Ignored
            | Event::Unknown(_) => Vec::new(),
        }
    }

    /// Takes the messages of the conversation as the server keeps them.
    pub fn apply_history(&mut self, messages: &[Message]) -> Vec<TurnEvent> {
        let mut news = Vec::new();
        for message in messages {
            news.extend(self.message(&message.info));
            for part in &message.parts {
                let first_seen = !self.texts.contains_key(&part.id);
                news.extend(self.part(part));
                // Its beginning was told while nobody listened.
                if let Some(spoken) = self.texts.get_mut(&part.id)
                    && first_seen
                {
                    spoken.gap = !spoken.done;
                }
            }
        }
        news
    }

    /// Takes the messages of a subagent's conversation.
    pub fn apply_child_history(&mut self, messages: &[Message]) -> Vec<TurnEvent> {
        let parts = messages.iter().flat_map(|message| &message.parts);
        parts.flat_map(|part| self.child_part(part)).collect()
    }

    /// Makes a session whose parent belongs to the turn belong to it too.
    pub fn adopt(&mut self, session: &str, parent: Option<&str>) {
        if parent.is_some_and(|parent| parent == self.session || self.children.contains(parent)) {
            self.children.insert(session.to_owned());
        }
    }

    /// Says that events may have been missed: parts that are being written wait for their whole text.
    pub fn mark_gap(&mut self) {
        self.texts.values_mut().for_each(|spoken| spoken.gap = true);
    }

    /// What the last answer says.
    pub fn standing(&self) -> Standing {
        let Some(last) = self.answers.values().next_back() else { return Standing::NotBegun };
        if let Some(error) = &last.error {
            return Standing::Failed(error.clone());
        }
        let finish = last.finish.clone().unwrap_or_default();
        match (last.time.completed.is_some(), finish.as_str()) {
            (false, _) => Standing::Underway,
            (true, "" | "tool-calls" | "unknown") => Standing::Paused { finish },
            (true, _) => Standing::Finished { finish },
        }
    }

    /// The first error told of the session since the turn began. It names no turn.
    pub fn error(&self) -> Option<&AgentError> {
        self.error.as_ref()
    }

    /// Sum over the steps so far, those of subagents included.
    pub fn usage(&self) -> Usage {
        self.usage
    }

    /// True when there was no text, no tool call and no usage.
    pub fn is_empty(&self) -> bool {
        !self.said_something && self.tools.is_empty() && self.usage.is_zero()
    }

    /// The subagents' sessions.
    pub fn children(&self) -> impl Iterator<Item = &str> {
        self.children.iter().map(String::as_str)
    }

    /// What a request id stands for.
    pub fn asked(&self, request: &str) -> Option<&Asked> {
        self.asked.get(request)
    }

    /// An assistant message belongs to the turn when it answers our message, or one that came after it: opencode
    /// adds user messages of its own (compaction, subtasks), and one prompt at a time runs in a conversation.
    fn message(&mut self, info: &MessageInfo) -> Vec<TurnEvent> {
        let in_turn = info.parent_id.as_deref().is_some_and(|parent| parent >= self.prompt_id.as_str());
        if info.role != "assistant" || !in_turn {
            return Vec::new();
        }
        // A late copy of an unfinished head never undoes a finished one.
        let finished = |head: &MessageInfo| head.time.completed.is_some() || head.error.is_some();
        if !self.answers.get(&info.id).is_some_and(|known| finished(known) && !finished(info)) {
            self.answers.insert(info.id.clone(), info.clone());
        }
        let is_new = |agent: &&str| self.agent.as_deref() != Some(*agent) && !is_compaction(info);
        let Some(agent) = info.agent.as_deref().filter(is_new) else {
            return Vec::new();
        };
        let changed = self.agent.replace(agent.to_owned()).is_some();
        if changed { vec![TurnEvent::ModeChanged(agent.to_owned())] } else { Vec::new() }
    }

    fn part(&mut self, part: &Part) -> Vec<TurnEvent> {
        let Some(answer) = self.answers.get(&part.message_id) else { return Vec::new() };
        match part.kind.as_str() {
            "text" | "reasoning" if is_compaction(answer) => Vec::new(),
            "text" => self.whole_text(part, false),
            "reasoning" => self.whole_text(part, true),
            "tool" => self.tool(part, None),
            "step-finish" => self.step(part),
            _ => Vec::new(),
        }
    }

    fn child_part(&mut self, part: &Part) -> Vec<TurnEvent> {
        match part.kind.as_str() {
            "tool" => self.tool(part, Some("subagent: ")),
            "step-finish" => self.step(part),
            _ => Vec::new(),
        }
    }

    fn delta(&mut self, message: &str, part: &str, piece: &str) -> Vec<TurnEvent> {
        match self.texts.get_mut(part) {
            Some(spoken) if self.answers.contains_key(message) && !spoken.gap && !spoken.done => {
                spoken.sent.push_str(piece);
                let event = say(spoken.reasoning, piece);
                self.said_something |= !event.is_empty();
                event
            }
            Some(_) | None => Vec::new(),
        }
    }

    /// The text so far, or whole: what did not go out yet goes out now.
    fn whole_text(&mut self, part: &Part, reasoning: bool) -> Vec<TurnEvent> {
        let spoken = self.texts.entry(part.id.clone()).or_insert_with(|| Spoken {
            reasoning,
            sent: String::new(),
            gap: false,
            done: false,
        });
        if spoken.done {
            return Vec::new();
        }
        spoken.done = part.time.end.is_some();
        let rest = part.text.strip_prefix(spoken.sent.as_str()).unwrap_or_default().to_owned();
        // A plugin may rewrite a text when it ends; blanks at its end may fall away.
        let rewritten = spoken.done && !part.text.starts_with(spoken.sent.trim_end());
        spoken.sent.push_str(&rest);
        let mut news = say(reasoning, &rest);
        self.said_something |= !news.is_empty();
        if rewritten {
            spoken.sent.clone_from(&part.text);
            let notice = "opencode rewrote a part of its answer after it was sent";
            news.push(TurnEvent::Notice(notice.to_owned()));
        }
        news
    }

    /// Announced once, then told on each change; a late copy of an earlier state is no change.
    fn tool(&mut self, part: &Part, prefix: Option<&str>) -> Vec<TurnEvent> {
        let call = tool_call(part, prefix);
        match self.tools.insert(part.id.clone(), call.clone()) {
            None => vec![TurnEvent::ToolCall(call)],
            Some(known) if known == call => Vec::new(),
            Some(known) if rank(known.status) > rank(call.status) => {
                self.tools.insert(part.id.clone(), known);
                Vec::new()
            }
            Some(_) => vec![TurnEvent::ToolUpdate(call)],
        }
    }

    fn step(&mut self, part: &Part) -> Vec<TurnEvent> {
        if !self.counted_steps.insert(part.id.clone()) {
            return Vec::new();
        }
        let usage = usage(part);
        self.usage += usage;
        vec![TurnEvent::Usage(usage)]
    }

    /// Takes what the session does now, from the stream or from `GET /session/status`.
    pub fn status(&mut self, status: &Status) -> Vec<TurnEvent> {
        let same = |known: &Status| (known.attempt, &known.message) == (status.attempt, &status.message);
        if status.kind != "retry" || self.last_retry.as_ref().is_some_and(same) {
            return Vec::new();
        }
        self.last_retry = Some(status.clone());
        vec![TurnEvent::Retry { attempt: status.attempt, message: status.message.clone() }]
    }

    /// How the provider last failed and will be asked again, if it did.
    pub fn retrying(&self) -> Option<&Status> {
        self.last_retry.as_ref()
    }

    fn permission(&mut self, asked: &PermissionAsked) -> Vec<TurnEvent> {
        let title = format!("{}: {}", asked.permission, asked.patterns.join(", "));
        let kind = PermissionKind::Tool;
        self.ask(&asked.id, Asked::Permission, kind, access(&asked.permission), title, &asked.whole)
    }

    fn question(&mut self, asked: &QuestionAsked) -> Vec<TurnEvent> {
        let count = asked.questions.len();
        let title = asked.questions.join(" / ");
        let kind = PermissionKind::Question;
        self.ask(&asked.id, Asked::Question { count }, kind, Access::Unknown, title, &asked.whole)
    }

    fn ask(
        &mut self,
        id: &str,
        asked: Asked,
        kind: PermissionKind,
        access: Access,
        title: String,
        whole: &serde_json::Value,
    ) -> Vec<TurnEvent> {
        if self.asked.insert(id.to_owned(), asked).is_some() {
            return Vec::new();
        }
        let payload = whole.clone();
        vec![TurnEvent::Permission(PermissionRequest {
            agent_request_id: id.to_owned(),
            kind,
            access,
            title,
            payload,
        })]
    }
}

/// By opencode's own names. `external_directory` does not say what for, and a fetched page is no file.
fn access(permission: &str) -> Access {
    match permission {
        "read" | "glob" | "grep" | "list" | "lsp" | "todoread" => Access::Read,
        "edit" | "write" | "patch" | "multiedit" | "bash" => Access::Write,
        _ => Access::Unknown,
    }
}

/// A summary that opencode makes for itself when a conversation has outgrown its model: no word of the answer.
fn is_compaction(answer: &MessageInfo) -> bool {
    answer.agent.as_deref() == Some("compaction")
}

/// Text, tokens and end of a turn that was cut off, read from the history alone.
pub(super) fn replay(session: &str, prompt_id: &str, messages: &[Message]) -> (TurnView, String) {
    let mut view = TurnView::new(session, prompt_id);
    let news = view.apply_history(messages);
    let texts = news.into_iter().filter_map(|event| match event {
        TurnEvent::Text(text) => Some(text),
        _ => None,
    });
    let output = texts.collect();
    (view, output)
}

/// The failure that a turn's last answer or its session told, if it is not an abort.
pub(super) fn failure_of(view: &TurnView) -> Option<&AgentError> {
    view.error().filter(|error| !failure::is_abort(error))
}
