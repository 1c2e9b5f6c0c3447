//! What a turn's end is, and which call carries a person's decision. Pure.

use super::failure;
use super::translate::{Asked, Standing, TurnView, failure_of};
use crate::backend::BackendError;
use crate::domain::failure::FailureReason;
use crate::domain::permission::PermissionDecision;
use crate::domain::turn::TurnEnd;
use serde_json::{Value, json};

/// Told to the model where a refusal came without words; without any, opencode ends the turn.
const DENIED: &str = "this was not permitted; go on without it";
/// Told to the model where its question was merely let through.
const UNDECIDED: &str = "nobody is there to answer: decide yourself";

/// The end of a turn whose session is idle.
pub(super) fn end(view: &TurnView, stop_was_asked: bool) -> Result<TurnEnd, BackendError> {
    let failed = |reason, message: &str| BackendError::turn(reason, message);
    match view.standing() {
        Standing::Failed(error) if failure::is_abort(&error) && stop_was_asked => Ok(TurnEnd::Cancelled),
        Standing::Failed(error) if failure::is_abort(&error) => {
            Err(failed(FailureReason::AgentCrashed, "somebody else aborted the turn in opencode"))
        }
        Standing::Failed(error) if failure::reason(&error) == FailureReason::Refused => Ok(TurnEnd::Refused),
        Standing::Failed(error) => Err(failure::of_turn(&error)),
        Standing::Finished { finish } if finish == "content-filter" => Ok(TurnEnd::Refused),
        // opencode meant to go on: an abort between two tries of a provider leaves half an answer without an error.
        Standing::Paused { .. } if stop_was_asked => Ok(TurnEnd::Cancelled),
        Standing::Finished { .. } | Standing::Paused { .. } if view.is_empty() => {
            Err(failed(FailureReason::EmptyTurn, "opencode ended the turn without text, tool call or usage"))
        }
        Standing::Finished { finish } | Standing::Paused { finish } => {
            Ok(TurnEnd::Completed { stop_reason: finish, usage: view.usage() })
        }
        Standing::NotBegun | Standing::Underway if stop_was_asked => Ok(TurnEnd::Cancelled),
        Standing::NotBegun | Standing::Underway => match failure_of(view) {
            Some(error) => Err(failure::of_turn(error)),
            None if view.is_empty() => {
                Err(failed(FailureReason::EmptyTurn, "opencode took the prompt and did not run it"))
            }
            None => Err(failed(FailureReason::AgentCrashed, "opencode stopped in the middle of its answer")),
        },
    }
}

/// The call that carries a decision: path and body.
pub(super) fn reply(request: &str, asked: &Asked, decision: PermissionDecision) -> (String, Value) {
    use PermissionDecision as D;
    let permission = |body| (format!("permission/{request}/reply"), body);
    let question = |answers: Value| (format!("question/{request}/reply"), json!({ "answers": answers }));
    match (asked, decision) {
        (Asked::Permission, D::AllowOnce) => permission(json!({ "reply": "once" })),
        (Asked::Permission, D::AllowAlways) => permission(json!({ "reply": "always" })),
        (Asked::Permission, D::Deny { message }) => {
            permission(json!({ "reply": "reject", "message": message.unwrap_or_else(|| DENIED.to_owned()) }))
        }
        // Words are no permission; they are told to the model.
        (Asked::Permission, D::Answers(answers)) => {
            permission(json!({ "reply": "reject", "message": answers.concat().join("; ") }))
        }
        (Asked::Question { .. }, D::Answers(answers)) => question(json!(answers)),
        (Asked::Question { count }, D::AllowOnce | D::AllowAlways) => {
            question(json!(vec![[UNDECIDED]; *count]))
        }
        (Asked::Question { count }, D::Deny { message: Some(message) }) => {
            question(json!(vec![[message]; *count]))
        }
        (Asked::Question { .. }, D::Deny { message: None }) => {
            (format!("question/{request}/reject"), json!({}))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::event::Event;
    use super::super::wire::{Message, MessageInfo};
    use super::*;
    use serde_json::from_value;

    /// A view whose one answer has these fields on top of what each answer has.
    fn view(fields: Value, parts: Value) -> TurnView {
        let mut info = json!({ "id": "msg_2", "sessionID": "s", "role": "assistant", "parentID": "msg_1" });
        info.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        let mut view = TurnView::new("s", "msg_1");
        let info: MessageInfo = from_value(info).unwrap();
        view.apply_history(&[Message { info, parts: from_value(parts).unwrap() }]);
        view
    }

    fn spoken() -> Value {
        json!([{ "id": "p", "messageID": "msg_2", "type": "text", "text": "hi", "time": { "end": 1 } }])
    }

    fn failed(error: &str) -> TurnView {
        view(
            json!({ "time": { "completed": 1 }, "error": { "name": error, "data": { "message": "m" } } }),
            spoken(),
        )
    }

    fn reason(end: Result<TurnEnd, BackendError>) -> FailureReason {
        end.expect_err("it failed").reason()
    }

    #[test]
    fn an_answer_that_is_whole_completes_with_the_agents_own_word() {
        let whole = view(json!({ "time": { "completed": 1 }, "finish": "length" }), spoken());
        for stop_was_asked in [false, true] {
            let Ok(TurnEnd::Completed { stop_reason, .. }) = end(&whole, stop_was_asked) else { panic!() };
            assert_eq!(stop_reason, "length");
        }
    }

    #[test]
    fn an_abort_is_a_cancellation_only_when_we_asked() {
        assert_eq!(end(&failed("MessageAbortedError"), true).unwrap(), TurnEnd::Cancelled);
        assert_eq!(reason(end(&failed("MessageAbortedError"), false)), FailureReason::AgentCrashed);
        assert_eq!(end(&TurnView::new("s", "msg_1"), true).unwrap(), TurnEnd::Cancelled);
    }

    #[test]
    fn half_an_answer_that_was_stopped_is_no_whole_one() {
        let half = view(json!({ "time": { "completed": 1 } }), spoken());
        assert_eq!(end(&half, true).unwrap(), TurnEnd::Cancelled);
    }

    #[test]
    fn what_says_nothing_is_an_empty_turn() {
        let empty = view(json!({ "time": { "completed": 1 }, "finish": "stop" }), json!([]));
        assert_eq!(reason(end(&empty, false)), FailureReason::EmptyTurn);
        assert_eq!(reason(end(&TurnView::new("s", "msg_1"), false)), FailureReason::EmptyTurn);
    }

    #[test]
    fn an_error_of_the_session_explains_a_turn_that_never_began() {
        let mut view = TurnView::new("s", "msg_1");
        let data = json!({ "message": "Model not found: a/b" });
        let error = super::super::wire::AgentError { name: "UnknownError".into(), data };
        view.apply(&Event::Error { session: Some("s".into()), error });
        assert_eq!(reason(end(&view, false)), FailureReason::ModelUnknown);
    }

    #[test]
    fn a_refusal_of_the_model_is_one() {
        assert_eq!(end(&failed("ContentFilterError"), false).unwrap(), TurnEnd::Refused);
    }

    #[test]
    fn an_answer_of_an_earlier_turn_ends_nothing() {
        let earlier = json!({ "parentID": "msg_0", "time": { "completed": 1 }, "finish": "stop" });
        assert_eq!(view(earlier, spoken()).standing(), Standing::NotBegun);
    }

    #[test]
    fn a_refusal_without_words_still_has_some_so_that_the_turn_goes_on() {
        let (path, body) = reply("per_1", &Asked::Permission, PermissionDecision::Deny { message: None });
        assert_eq!((path.as_str(), body["message"].as_str()), ("permission/per_1/reply", Some(DENIED)));
        let (path, body) = reply("que_1", &Asked::Question { count: 2 }, PermissionDecision::AllowOnce);
        assert_eq!(
            (path.as_str(), body),
            ("question/que_1/reply", json!({ "answers": [[UNDECIDED], [UNDECIDED]] }))
        );
    }
}
