//! Recorded traffic of opencode 1.18.33 (`fixtures/opencode`), played through the translator.

use super::event::{Event, GlobalEvent};
use super::translate::{Standing, TurnView, replay};
use super::wire::Message;
use crate::domain::failure::FailureReason;
use crate::domain::permission::{Access, PermissionKind};
use crate::domain::turn::{ToolStatus, TurnEvent};
use crate::domain::usage::Usage;
use serde_json::Value;

const SESSION: &str = include_str!("../../../fixtures/opencode/session.jsonl");
const SUBAGENT: &str = include_str!("../../../fixtures/opencode/subagent.jsonl");

fn events(recording: &str) -> Vec<Event> {
    let lines = recording.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let events = lines.filter(|line| line["dir"] == "sse").map(|line| line["event"].clone());
    events.map(|event| Event::parse(serde_json::from_value::<GlobalEvent>(event).unwrap().payload)).collect()
}

/// The id of the user message that begins with that text, and its session.
fn prompt(events: &[Event], text: &str) -> (String, String) {
    let part = events.iter().find_map(|event| match event {
        Event::Part(part) if part.text.starts_with(text) => Some(part),
        _ => None,
    });
    let part = part.unwrap_or_else(|| panic!("no prompt {text:?} in the recording"));
    (part.session_id.clone(), part.message_id.clone())
}

/// Plays the whole recording, so that everything of other turns is there to be told apart.
fn play(recording: &str, text: &str) -> (TurnView, Vec<TurnEvent>, usize) {
    let events = events(recording);
    let (session, id) = prompt(&events, text);
    let mut view = TurnView::new(&session, &id);
    // The turn is listened to from its prompt up to the next one: one turn at a time.
    let begin = events.iter().position(|e| matches!(e, Event::Message(info) if info.id == id)).unwrap();
    let next = events.iter().skip(begin).position(|event| {
        matches!(event, Event::Message(info) if info.role == "user" && info.session_id == session && info.id != id)
    });
    let end = next.map_or(events.len(), |next| begin + next);
    events[..begin].iter().for_each(|event| drop(view.apply(event)));
    let news = events[begin..end].iter().flat_map(|event| view.apply(event)).collect();
    (view, news, end)
}

fn text(news: &[TurnEvent]) -> String {
    news.iter()
        .filter_map(|event| if let TurnEvent::Text(text) = event { Some(text.as_str()) } else { None })
        .collect()
}

fn tools(news: &[TurnEvent]) -> Vec<(bool, &str, ToolStatus)> {
    let tools = news.iter().filter_map(|event| match event {
        TurnEvent::ToolCall(call) => Some((true, call.tool.as_str(), call.status)),
        TurnEvent::ToolUpdate(call) => Some((false, call.tool.as_str(), call.status)),
        _ => None,
    });
    tools.collect()
}

#[test]
fn every_recorded_event_is_handled_or_ignored_by_name() {
    for event in events(SESSION).into_iter().chain(events(SUBAGENT)) {
        assert!(!matches!(event, Event::Unknown(_)), "{event:?}");
    }
}

#[test]
fn a_turn_with_reasoning_is_told_piece_by_piece_and_only_once() {
    let (view, news, _) = play(SESSION, "THINK: pondering");
    let reasoning = news.iter().filter_map(|event| match event {
        TurnEvent::Reasoning(piece) => Some(piece.as_str()),
        _ => None,
    });
    assert_eq!(reasoning.collect::<String>(), "thinking about: pondering deeply");
    assert_eq!(text(&news), "thought about it");
    assert!(news.iter().filter(|event| matches!(event, TurnEvent::Text(_))).count() > 1, "it came in pieces");
    assert_eq!(view.standing(), Standing::Finished { finish: "stop".to_owned() });
    assert_eq!(view.usage(), Usage { input_tokens: 8076, output_tokens: 8, ..Usage::default() });
}

#[test]
fn a_tool_that_asks_is_told_from_its_call_to_its_result() {
    let (view, news, _) = play(SESSION, "TOOL:write out.txt");
    use ToolStatus::{Completed, Pending, Running};
    let expected = [(true, "write", Pending), (false, "write", Running), (false, "write", Completed)];
    assert_eq!(tools(&news), expected);
    let asked = news.iter().find_map(|event| match event {
        TurnEvent::Permission(request) => Some(request),
        _ => None,
    });
    let asked = asked.expect("it asks");
    assert_eq!((asked.kind, asked.title.as_str()), (PermissionKind::Tool, "edit: out.txt"));
    assert_eq!(asked.access, Access::Write);
    assert!(asked.payload["metadata"]["diff"].as_str().unwrap().contains("+hello-file"));
    assert_eq!(news.iter().filter(|event| matches!(event, TurnEvent::Usage(_))).count(), 2, "one a step");
    assert_eq!(view.standing(), Standing::Finished { finish: "stop".to_owned() });
}

#[test]
fn a_refused_tool_fails_and_the_turn_goes_on() {
    let (view, news, _) = play(SESSION, "TOOL:bash echo hi");
    assert_eq!(tools(&news).last(), Some(&(false, "bash", ToolStatus::Failed)));
    assert!(text(&news).contains("rejected permission"));
    assert_eq!(view.standing(), Standing::Finished { finish: "stop".to_owned() });
}

#[test]
fn an_abort_is_an_end_of_its_own_turn_and_of_no_other() {
    let (view, news, _) = play(SESSION, "SLOW:60");
    assert!(text(&news).starts_with("tok0 tok1 "));
    let Standing::Failed(error) = view.standing() else { panic!("{:?}", view.standing()) };
    assert!(super::failure::is_abort(&error));
    // The same facts, heard by a turn that begins later: two idles and an abort that are not its own.
    let all = events(SESSION);
    let (session, later) = prompt(&all, "FAIL:400");
    let mut next = TurnView::new(&session, &later);
    let begin = all.iter().position(|e| matches!(e, Event::Message(info) if info.id == later)).unwrap();
    all[..begin].iter().for_each(|event| drop(next.apply(event)));
    assert_eq!(next.standing(), Standing::NotBegun);
}

#[test]
fn a_providers_refusal_has_its_reason() {
    let (view, _, _) = play(SESSION, "FAIL:400");
    let Standing::Failed(error) = view.standing() else { panic!("{:?}", view.standing()) };
    assert_eq!(super::failure::reason(&error), FailureReason::BadRequest);
    let (view, _, _) = play(SUBAGENT, "FAIL:401");
    let Standing::Failed(error) = view.standing() else { panic!("{:?}", view.standing()) };
    assert_eq!(super::failure::reason(&error), FailureReason::AuthRequired);
}

#[test]
fn a_rate_limit_that_passes_is_surfaced_once() {
    let (view, news, _) = play(SESSION, "FAIL:429x1");
    let retries = news.iter().filter(|event| matches!(event, TurnEvent::Retry { .. })).collect::<Vec<_>>();
    let retry = TurnEvent::Retry { attempt: 1, message: "scripted failure 429".to_owned() };
    assert_eq!(retries, [&retry]);
    assert_eq!(text(&news), "echo: FAIL:429x1");
    assert_eq!(view.standing(), Standing::Finished { finish: "stop".to_owned() });
}

#[test]
fn a_subagents_tools_requests_and_tokens_belong_to_the_turn_and_its_text_does_not() {
    let (view, news, _) = play(SUBAGENT, "TOOL:raw task");
    let asked = news.iter().filter(|event| matches!(event, TurnEvent::Permission(_))).count();
    assert_eq!(asked, 1, "nobody else would answer it");
    assert!(news.iter().any(|event| matches!(event, TurnEvent::ToolCall(call)
        if call.tool == "bash" && call.title.as_deref() == Some("subagent: bash"))));
    assert_eq!(news.iter().filter(|event| matches!(event, TurnEvent::Usage(_))).count(), 4);
    assert_eq!(view.usage().input_tokens, 8295 + 8408 + 6036 + 6098);
    assert_eq!(text(&news).matches("Calling ").count(), 1, "{}", text(&news));
}

#[test]
fn a_question_is_asked_with_its_words() {
    let (_, news, _) = play(SUBAGENT, "TOOL:raw question");
    let asked = news.iter().find_map(|event| match event {
        TurnEvent::Permission(request) => Some(request),
        _ => None,
    });
    let asked = asked.expect("it asks");
    assert_eq!((asked.kind, asked.title.as_str()), (PermissionKind::Question, "Which?"));
}

#[test]
fn an_answer_cut_by_its_length_says_so() {
    let (view, _, _) = play(SUBAGENT, "LEN");
    assert_eq!(view.standing(), Standing::Finished { finish: "length".to_owned() });
}

#[test]
fn facts_told_again_add_nothing() {
    let all = events(SESSION);
    let (mut view, _, end) = play(SESSION, "TOOL:write out.txt");
    let again = all[..end].iter().flat_map(|event| view.apply(event)).collect::<Vec<_>>();
    assert!(again.is_empty(), "{again:?}");
}

/// Drops each stretch of the stream in turn, as a broken connection would, and reads the history after it.
#[test]
fn a_gap_anywhere_is_closed_by_the_history_without_loss_or_repetition() {
    let all = events(SESSION);
    let (session, id) = prompt(&all, "TOOL:write out.txt");
    let (_, whole, end) = play(SESSION, "TOOL:write out.txt");
    let begin = all.iter().position(|e| matches!(e, Event::Message(info) if info.id == id)).unwrap();
    for from in begin..end {
        for to in [from + 1, from + 3, from + 10, end].map(|to| to.min(end)) {
            let mut view = TurnView::new(&session, &id);
            let mut news = all[..from].iter().flat_map(|event| view.apply(event)).collect::<Vec<_>>();
            view.mark_gap();
            news.extend(view.apply_history(&history(&all[..to], &session)));
            news.extend(all[to..end].iter().flat_map(|event| view.apply(event)));
            assert_eq!(text(&news), text(&whole), "gap {from}..{to}");
            let last = |news: &[TurnEvent]| tools(news).last().map(|(_, _, status)| *status);
            assert_eq!(last(&news), last(&whole), "gap {from}..{to}");
            assert_eq!(tools(&news).iter().filter(|(call, _, _)| *call).count(), 1, "gap {from}..{to}");
            let usages =
                |news: &[TurnEvent]| news.iter().filter(|e| matches!(e, TurnEvent::Usage(_))).count();
            assert_eq!(usages(&news), usages(&whole), "gap {from}..{to}");
        }
    }
}

/// What the server keeps at that moment: heads and parts as last updated; deltas are not kept.
fn history(events: &[Event], session: &str) -> Vec<Message> {
    let mut messages: Vec<Message> = Vec::new();
    for event in events.iter().filter(|event| event.session() == Some(session)) {
        match event {
            Event::Message(info) => match messages.iter_mut().find(|message| message.info.id == info.id) {
                Some(message) => message.info = info.clone(),
                None => messages.push(Message { info: info.clone(), parts: Vec::new() }),
            },
            Event::Part(part) => {
                let message = messages.iter_mut().find(|message| message.info.id == part.message_id);
                let Some(message) = message else { continue };
                match message.parts.iter_mut().find(|known| known.id == part.id) {
                    Some(known) => *known = part.clone(),
                    None => message.parts.push(part.clone()),
                }
            }
            _ => {}
        }
    }
    messages
}

#[test]
fn the_history_alone_tells_a_turn_that_was_cut_off() {
    let all = events(SESSION);
    let (session, id) = prompt(&all, "THINK: pondering");
    let next = prompt(&all, "TOOL:write out.txt").1;
    let messages = history(&all, &session);
    let end = messages.iter().position(|message| message.info.id == next).unwrap();
    let (view, output) = replay(&session, &id, &messages[..end]);
    assert_eq!(output, "thought about it");
    assert_eq!(view.standing(), Standing::Finished { finish: "stop".to_owned() });
    // Killed in the middle: the prompt is there, its answer never ended.
    let (session, id) = prompt(&all, "HANG");
    let (view, _) = replay(&session, &id, &messages[..]);
    assert!(!matches!(view.standing(), Standing::Finished { .. }) || view.standing() == Standing::NotBegun);
}
