//! Model, mode, thinking and options, as tasks wish them.

use super::over;
use crate::support::acp::FixtureAgent;
use crate::support::conformance::{Line, Policy, Subject};
use agentpool::domain::task::TaskSettings;
use serde_json::json;

async fn settings_after(subject: &FixtureAgent, line: &Line, wishes: TaskSettings) -> (String, String) {
    let told = line.begin_with(subject, "SETTINGS", wishes, 64).finish(Policy::Deny).await;
    told.completed();
    (told.text(), told.notices())
}

#[tokio::test]
async fn what_is_wished_is_set_in_an_order_that_works_and_does_not_stick() {
    for faults in ["", "no_resume"] {
        set_and_not_sticking(FixtureAgent::new(faults)).await;
    }
}

async fn set_and_not_sticking(subject: FixtureAgent) {
    let mut line = Line::open(&subject).await;
    let (before, _) = settings_after(&subject, &line, TaskSettings::default()).await;
    let wishes = TaskSettings {
        model: Some("big".into()),
        mode_id: Some("plan".into()),
        thinking_option_id: Some("high".into()),
        // Of the big model alone.
        feature_values: Some(json!({"context": "long", "tone": "loud"})),
    };
    let (set, notices) = settings_after(&subject, &line, wishes.clone()).await;
    for part in ["mode=plan", "model=big", "thought_level=high", "context=long", "tone=loud"] {
        assert!(set.contains(part), "{part} is missing: {set} ({notices})");
    }
    let (after, _) = settings_after(&subject, &line, TaskSettings::default()).await;
    assert_eq!(after, before, "the last task's wishes stick");
    // The process is gone, the conversation is not: what is wished is set again, after a load as after a resume.
    subject.backend().release(&line.handle).await.unwrap();
    let id = line.handle.agent_session_id.clone();
    line.ensure(&subject, Some(id), &[]).await;
    let (set, _) = settings_after(&subject, &line, wishes).await;
    assert!(set.contains("model=big") && set.contains("mode=plan"), "{set}");
    over(subject).await;
}

#[tokio::test]
async fn what_is_not_offered_is_dropped_with_a_notice_and_the_task_runs() {
    let subject = FixtureAgent::new("");
    let line = Line::open(&subject).await;
    let wishes = TaskSettings {
        model: Some("imaginary".into()),
        mode_id: Some("levitate".into()),
        thinking_option_id: Some("galactic".into()),
        feature_values: Some(json!({"no_such": true})),
    };
    let (_, notices) = settings_after(&subject, &line, wishes).await;
    for word in ["imaginary", "levitate", "galactic", "no_such"] {
        assert!(notices.contains(word), "{word}: {notices}");
    }
    over(subject).await;
}

#[tokio::test]
async fn models_of_the_older_way_are_set_too_and_an_agent_without_choices_runs() {
    let subject = FixtureAgent::new("legacy_models");
    let line = Line::open(&subject).await;
    let wishes =
        TaskSettings { model: Some("big".into()), mode_id: Some("plan".into()), ..TaskSettings::default() };
    let (set, notices) = settings_after(&subject, &line, wishes.clone()).await;
    assert!(set.contains("model=big") && set.contains("mode=plan"), "{set} ({notices})");
    over(subject).await;
    let subject = FixtureAgent::new("no_modes,no_options,error_set_mode");
    let line = Line::open(&subject).await;
    let (_, notices) = settings_after(&subject, &line, wishes).await;
    assert!(notices.contains("big") && notices.contains("plan"), "{notices}");
    over(subject).await;
}
