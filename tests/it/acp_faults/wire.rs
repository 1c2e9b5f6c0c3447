//! Lines that are no messages, and messages that make no sense.

use super::over;
use crate::support::acp::FixtureAgent;
use crate::support::conformance::{Line, Subject};
use agentpool::domain::failure::FailureReason;
use agentpool::domain::turn::{ToolStatus, TurnEnd, TurnEvent};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::time::Duration;

/// F63, F64, F65, F69, F78 on one conversation: each is counted, none reaches the next turn.
#[tokio::test(flavor = "multi_thread")]
async fn nonsense_is_counted_and_harms_no_turn() {
    let subject = FixtureAgent::new("");
    let line = Line::open(&subject).await;
    for (nonsense, counted) in [
        ("GARBAGE:7", "7 lines of garbage"),
        ("NOT_UTF8", "8 lines of garbage"),
        ("ENDLESS:40", "1 lines that were too long"),
        ("UNKNOWN_UPDATE", "1 updates of unknown kinds"),
        ("FOREIGN: psst", "1 updates for others"),
        ("TWICE", "lines of garbage"),
        ("UNKNOWN_ID", "lines of garbage"),
        ("CRLF: c", "lines of garbage"),
    ] {
        let told = line.ask(&subject, &format!("{nonsense}\nSAY: on")).await;
        told.completed();
        assert!(told.text().ends_with("on") && !told.text().contains("psst"), "{nonsense}: {}", told.text());
        let health = subject.backend().health();
        assert!(health.detail.contains(counted), "{nonsense}: {}", health.detail);
        assert_eq!(line.ask(&subject, "SAY: next").await.text(), "next", "after {nonsense}");
    }
    over(subject).await;
}

/// An agent from which only noise comes is none, and is ended.
#[tokio::test]
async fn endless_garbage_ends_the_process() {
    let subject = FixtureAgent::new("");
    let line = Line::open(&subject).await;
    let told = line.ask(&subject, "GARBAGE:1500\nHANG").await;
    assert_eq!(told.reason(), FailureReason::AgentCrashed);
    assert!(format!("{:?}", told.end).contains("no messages"), "{:?}", told.end);
    over(subject).await;
}

#[tokio::test]
async fn a_call_that_nobody_announced_is_announced_and_an_unknown_end_is_an_end() {
    let subject = FixtureAgent::new("");
    let line = Line::open(&subject).await;
    let told = line.ask(&subject, "UNANNOUNCED\nSAY: x").await;
    told.completed();
    assert!(told.events.iter().any(|event| matches!(event, TurnEvent::ToolCall(_))), "{:?}", told.events);
    let told = line.ask(&subject, "SAY: x\nUNKNOWN_STOP").await;
    assert!(matches!(told.completed(), TurnEnd::Completed { stop_reason, .. } if !stop_reason.is_empty()));
    let told = line.ask(&subject, "PLAN\nCOMMANDS\nMODE:plan\nTITLE: a name\nTHINK: hm\nSAY: x").await;
    let has = |wanted: fn(&TurnEvent) -> bool| told.events.iter().any(wanted);
    assert!(has(|event| matches!(event, TurnEvent::Plan(entries) if !entries.is_empty())));
    assert!(has(|event| matches!(event, TurnEvent::Commands(names) if !names.is_empty())));
    assert!(has(|event| matches!(event, TurnEvent::ModeChanged(mode) if mode == "plan")));
    assert!(has(|event| matches!(event, TurnEvent::Reasoning(text) if text == "hm")));
    assert!(told.notices().contains("a name"), "{}", told.notices());
    over(subject).await;
}

/// F66: a flood is bounded by back-pressure, and loses nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_flood_is_held_back_by_a_slow_reader_and_loses_nothing() {
    let subject = FixtureAgent::new("");
    let (line, canary) = (Line::open(&subject).await, Line::open(&subject).await);
    let mut running = line.begin(&subject, "FLOOD:30000", 4);
    // Nobody reads the flood while the other conversation works.
    for n in 0..5 {
        let wanted = format!("beat {n}");
        assert_eq!(canary.ask(&subject, &format!("SAY: {wanted}")).await.text(), wanted);
    }
    while running.event().await.is_some() {}
    let told = running.finish(crate::support::conformance::Policy::Deny).await;
    told.completed();
    let text = told.text();
    let mut words = text.split_whitespace();
    assert!((0..30_000).all(|n| words.next() == Some(format!("f{n}").as_str())), "something is missing");
    over(subject).await;
}

/// F67: one that does not read its input any more is noticed when it is told something.
#[tokio::test]
async fn an_agent_that_does_not_read_is_lost() {
    let subject = FixtureAgent::with("", |config| {
        config.patience.write = Duration::from_millis(300);
    });
    let line = Line::open(&subject).await;
    line.ask(&subject, "SAY: last").await.completed();
    for pid in subject.backend().health().pids {
        kill(Pid::from_raw(pid.cast_signed()), Signal::SIGSTOP).unwrap();
    }
    // Longer than what a pipe holds.
    let told = line.ask(&subject, &format!("SAY: {}", "x".repeat(1 << 20))).await;
    assert_eq!(told.reason(), FailureReason::AgentCrashed);
    over(subject).await;
}

#[tokio::test]
async fn a_tools_diff_and_places_reach_the_reader() {
    let subject = FixtureAgent::new("");
    let line = Line::open(&subject).await;
    let prompt = subject.ask_and_write("a.txt", "hello");
    let told = line.begin(&subject, &prompt, 64).finish(crate::support::conformance::Policy::Allow).await;
    let call = told.events.iter().rev().find_map(|event| match event {
        TurnEvent::ToolCall(call) | TurnEvent::ToolUpdate(call) => Some(call),
        _ => None,
    });
    let call = call.expect("a tool was called");
    assert_eq!(call.status, ToolStatus::Completed);
    assert!(call.locations.iter().any(|place| place.contains("a.txt")), "{call:?}");
    assert!(call.diffs.iter().any(|diff| diff.new.contains("hello")), "{call:?}");
    over(subject).await;
}
