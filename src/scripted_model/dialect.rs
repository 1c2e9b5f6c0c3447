//! The dialects that the model speaks, and what their answers share. Pure: requests become conversations, steps become
//! frames; nothing is sent here. Each dialect's own words stay in its file.

mod chat;
mod gemini;
mod messages;
mod responses;

use super::conversation::Conversation;
use super::directives::{Finish, Step};
use super::tools::Call;
use serde_json::Value;
use std::collections::VecDeque;
use std::time::Duration;

/// A way to talk to a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    /// `OpenAI` chat/completions.
    Chat,
    /// `OpenAI` Responses.
    Responses,
    /// Anthropic Messages.
    Messages,
    /// Gemini generateContent. Model and stream are not in the body: they stand in the path.
    Gemini,
}

/// What goes over the wire, and when.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Frame {
    Bytes(String),
    Pause(Duration),
    Hang,
    Drop,
}

/// What all frames of one answer share.
pub(super) struct Answer {
    /// Unlike that of any other answer, of earlier servers too: agents keep ids in their conversations.
    pub(super) id: String,
    pub(super) model: String,
    pub(super) input_tokens: usize,
}

/// Why a request gets an error for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refusal<'a> {
    pub(super) status: u16,
    pub(super) message: &'a str,
    /// The conversation has outgrown the model.
    pub(super) too_long: bool,
}

impl Dialect {
    /// What the request holds; total over any JSON.
    pub(super) fn conversation(self, body: &Value) -> Conversation {
        match self {
            Self::Chat => chat::conversation(body),
            Self::Responses => responses::conversation(body),
            Self::Messages => messages::conversation(body),
            Self::Gemini => gemini::conversation(body),
        }
    }

    /// The steps as server-sent events, usage among them.
    pub(super) fn frames(self, answer: &Answer, steps: Vec<Step>) -> VecDeque<Frame> {
        match self {
            Self::Chat => chat::frames(answer, steps),
            Self::Responses => responses::frames(answer, steps),
            Self::Messages => messages::frames(answer, steps),
            Self::Gemini => gemini::frames(answer, steps),
        }
    }

    /// The steps as one JSON, after all their pauses.
    pub(super) fn whole(self, answer: &Answer, steps: Vec<Step>) -> VecDeque<Frame> {
        let (whole, mut frames) = gather(steps);
        let body = match self {
            Self::Chat => chat::whole(answer, whole),
            Self::Responses => responses::whole(answer, whole),
            Self::Messages => messages::whole(answer, whole),
            Self::Gemini => gemini::whole(answer, whole),
        };
        frames.push_back(Frame::Bytes(body.to_string()));
        frames
    }

    /// The body of an error.
    pub(super) fn error(self, refusal: Refusal<'_>) -> Value {
        match self {
            Self::Chat => chat::error(refusal),
            Self::Responses => responses::error(refusal),
            Self::Messages => messages::error(refusal),
            Self::Gemini => gemini::error(refusal),
        }
    }

    /// True when a stream begins as if all were well and tells the error by itself.
    pub(super) fn refuses_in_stream(self, refusal: Refusal<'_>) -> bool {
        self == Self::Responses && refusal.too_long
    }

    /// That stream.
    pub(super) fn refusal_frames(answer: &Answer, refusal: Refusal<'_>) -> VecDeque<Frame> {
        responses::overflow(answer, refusal)
    }

    /// How its provider says that a conversation is too long; agents know it by these words.
    pub(super) fn too_long(self) -> &'static str {
        match self {
            Self::Chat => {
                "This model's maximum context length is 8192 tokens. However, your messages resulted in more. \
                 Please reduce the length of the messages."
            }
            Self::Responses => {
                "Your input exceeds the context window of this model. Please adjust your input and try again."
            }
            Self::Messages => "prompt is too long: 208310 tokens > 200000 maximum",
            Self::Gemini => {
                "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576)."
            }
        }
    }
}

/// An answer that is not streamed, before it has a dialect.
#[derive(Debug, PartialEq)]
struct Whole {
    thought: String,
    text: String,
    calls: Vec<Call>,
    finish: Finish,
    tokens: Tokens,
}

/// What an answer is charged for: a token a step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Tokens {
    output: usize,
    /// Of the output.
    reasoning: usize,
}

impl Tokens {
    fn count(&mut self, step: &Step) {
        match step {
            Step::Think(_) => {
                self.output += 1;
                self.reasoning += 1;
            }
            Step::Text(_) | Step::Call(_) => self.output += 1,
            Step::Pause(_) | Step::Hang | Step::Drop | Step::Stop(_) => {}
        }
    }
}

/// The answer in one piece, and what has to be waited for before it.
fn gather(steps: Vec<Step>) -> (Whole, VecDeque<Frame>) {
    let mut whole = Whole {
        thought: String::new(),
        text: String::new(),
        calls: Vec::new(),
        finish: Finish::End,
        tokens: Tokens::default(),
    };
    let mut waits = VecDeque::new();
    for step in steps {
        whole.tokens.count(&step);
        match step {
            Step::Think(said) => whole.thought += &said,
            Step::Text(said) => whole.text += &said,
            Step::Call(call) => whole.calls.push(call),
            Step::Pause(pause) => waits.push_back(Frame::Pause(pause)),
            Step::Hang => waits.push_back(Frame::Hang),
            Step::Drop => waits.push_back(Frame::Drop),
            Step::Stop(finish) => whole.finish = finish,
        }
    }
    (whole, waits)
}

/// A server-sent event without a name.
fn event(data: &str) -> Frame {
    Frame::Bytes(format!("data: {data}\n\n"))
}

/// A server-sent event that is named as its `type` says.
fn typed_event(data: &Value) -> Frame {
    Frame::Bytes(format!("event: {}\ndata: {data}\n\n", data["type"].as_str().unwrap_or("message")))
}

/// A text in two halves: what arrives in pieces has to be put together.
fn halves(text: &str) -> [&str; 2] {
    let (left, right) = text.split_at(text.floor_char_boundary(text.len() / 2));
    [left, right]
}

#[cfg(test)]
mod tests;
