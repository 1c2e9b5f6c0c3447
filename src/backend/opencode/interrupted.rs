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

#[cfg(test)]
mod tests {
    use super::super::ids::prompt_ids;
    use super::*;
    use crate::domain::ids::{Fence, TaskId};
    use serde_json::json;

    fn turn(fence: i64) -> TurnRef {
        TurnRef { task: TaskId(uuid::Uuid::from_u128(1)), fence: Fence(fence) }
    }

    /// A prompt of that fence and its answer, whole or not.
    fn told(fence: i64, finish: Option<&str>) -> Vec<Message> {
        let prompt = prompt_ids(turn(fence), "s", fence.unsigned_abs() * 10).message;
        let answer = prompt_ids(turn(fence), "other", fence.unsigned_abs() * 10 + 1).message;
        let time = if finish.is_some() { json!({ "completed": 1 }) } else { json!({}) };
        let text = json!({ "id": format!("p{fence}"), "messageID": answer, "type": "text", "text": format!("said {fence}") });
        serde_json::from_value(json!([
            { "info": { "id": prompt, "sessionID": "s", "role": "user" }, "parts": [] },
            { "info": { "id": answer, "sessionID": "s", "role": "assistant", "parentID": prompt, "finish": finish, "time": time },
              "parts": [text] }
        ]))
        .unwrap()
    }

    #[test]
    fn an_older_turn_that_completed_is_found_behind_a_newer_one_that_did_not() {
        let messages = [told(1, Some("stop")), told(2, None)].concat();
        let Found::Completed { output, .. } = find("s", &messages, &[turn(2), turn(1)]) else { panic!() };
        assert_eq!(output, "said 1");
    }

    #[test]
    fn the_cut_is_before_the_oldest_of_them_and_nothing_else_is_touched() {
        let messages = [told(1, Some("stop")), told(2, None), told(3, None)].concat();
        let message = messages[2].info.id.clone();
        assert_eq!(find("s", &messages, &[turn(3), turn(2)]), Found::CutBefore { message });
        assert_eq!(find("s", &messages, &[turn(4)]), Found::Nothing);
        assert_eq!(find("s", &[], &[turn(1)]), Found::Nothing);
    }
}
