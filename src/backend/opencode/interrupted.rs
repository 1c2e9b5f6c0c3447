//! What became of turns that were cut off, read from the conversation as opencode kept it. Pure.

use super::ids::is_prompt_of;
use super::translate::{Standing, replay};
use super::wire::Message;
use crate::domain::turn::TurnRef;
use crate::domain::usage::Usage;

/// What the conversation shows.
#[derive(Debug, PartialEq)]
pub(super) enum Found {
    /// None of them: opencode never took those prompts.
    Nothing,
    /// One is whole.
    Completed { output: String, usage: Usage, stop_reason: String },
    /// None is whole; the conversation should end before this message.
    CutBefore { message: String },
}

/// Looks for interrupted turns, newest first. `messages` are in the order of their ids.
pub(super) fn find(session: &str, messages: &[Message], turns: &[TurnRef]) -> Found {
    let mut oldest = None;
    let mut end = messages.len();
    for turn in turns {
        let prompt = messages.iter().position(|message| {
            message.info.role == "user" && is_prompt_of(&message.info.id, *turn, session)
        });
        let Some(begin) = prompt else { continue };
        let id = &messages[begin].info.id;
        let (view, output) = replay(session, id, messages.get(begin..end).unwrap_or_default());
        if let Standing::Finished { finish } = view.standing()
            && !view.is_empty()
        {
            return Found::Completed { output, usage: view.usage(), stop_reason: finish };
        }
        oldest = Some(id.clone());
        // What comes after belongs to the newer one.
        end = begin;
    }
    oldest.map_or(Found::Nothing, |message| Found::CutBefore { message })
}
