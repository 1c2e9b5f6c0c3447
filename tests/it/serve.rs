//! The real program under signals, with its own embedded Postgres: nothing that it started outlives it, and what it had taken
//! on is ended once by the next start.

use crate::support::leaks::marked_processes;
use crate::support::node::Talk;
use crate::support::opencode::{model_config, opencode_program};
use crate::support::serve::{Place, SCRIPTED};
use agentpool::scripted_model::ScriptedModel;
use agentpool::wire::api::{ChangeView, TaskView};
use agentpool::wire::event::EventView;
use nix::sys::signal::Signal;
use reqwest::StatusCode;
use std::sync::atomic::Ordering::Relaxed;

#[tokio::test(flavor = "multi_thread")]
async fn a_terminated_program_lets_its_turn_end_exits_0_and_leaves_nothing() {
    let place = Place::new(SCRIPTED);
    let served = place.serve().await;
    let task = slow_turn(&served.talk, "SLOW:30").await;
    served.signal(Signal::SIGTERM);
    let events = served.talk.follow(task.id, |_| false).await;
    assert_eq!(events.last().unwrap().content.as_deref(), Some("completed"), "the drain waited for it");
    let (status, said) = served.ended().await;
    assert_eq!(status.code(), Some(0), "{said:#?}");
    place.nothing_is_left();
}

#[tokio::test(flavor = "multi_thread")]
async fn f10_a_second_term_ends_at_once_and_the_turn_goes_back_uncharged() {
    let place = Place::new(SCRIPTED);
    let served = place.serve().await;
    let task = slow_turn(&served.talk, "SLOW:3000").await;
    served.signal(Signal::SIGTERM);
    // The first one must have been heard, or the two are one.
    while reqwest::get(format!("{}/readyz", served.talk.url)).await.unwrap().status() == StatusCode::OK {}
    served.signal(Signal::SIGTERM);
    let (status, said) = served.ended().await;
    assert_eq!(status.code(), Some(0), "{said:#?}");
    place.nothing_is_left();
    let served = place.serve().await;
    let _: TaskView =
        served.talk.post(&format!("/api/tasks/{}/cancel", task.id), &(), StatusCode::ACCEPTED).await;
    let (task, _) = served.talk.finish(task.id).await;
    assert_eq!((task.status.as_str(), task.failures), ("cancelled", 0), "{task:?}");
    served.signal(Signal::SIGTERM);
    served.ended().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f07_a_second_program_on_the_data_folder_says_so_and_exits() {
    let place = Place::new(SCRIPTED);
    let served = place.serve().await;
    let mut command = place.command();
    let second = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let words = String::from_utf8_lossy(&second.stderr);
    assert_eq!(second.status.code(), Some(4), "{words}");
    assert!(words.contains("in use by another agentpool"), "{words}");
    let task = slow_turn(&served.talk, "SAY: the first one works on").await;
    assert_eq!(served.talk.finish(task.id).await.0.status, "completed");
    served.signal(Signal::SIGTERM);
    served.ended().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f06_a_program_that_is_frozen_past_its_deadline_is_survived_by_nothing() {
    let place = Place::new(SCRIPTED);
    let served = place.serve().await;
    assert!(!marked_processes(&place.mark()).is_empty(), "Postgres at least");
    served.signal(Signal::SIGSTOP);
    place.nothing_is_left();
    served.signal(Signal::SIGKILL);
    served.ended().await;
    // The next start finds nothing in its way.
    let served = place.serve().await;
    served.signal(Signal::SIGTERM);
    assert_eq!(served.ended().await.0.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn f02_f03_a_killed_program_leaves_nothing_running_and_its_task_is_retried_from_its_checkpoint_and_ended_once()
 {
    let model = ScriptedModel::start(0).unwrap();
    let program = opencode_program().await;
    let place = Place::new(&format!(
        "[agents.opencode]\nbackend = \"opencode_server\"\ncommand = {program:?}\nhome = \"isolated\"\n\
         [agents.opencode.env]\nOPENCODE_DISABLE_MODELS_FETCH = \"1\"\nOPENCODE_CONFIG_CONTENT = '''{}'''",
        model_config(&model.base_url())
    ));
    let served = place.serve().await;
    let session = served.talk.session().await;
    // A tool in a session of its own, which a group kill would miss, and half of the work done.
    let prompt = "TOOL:bash echo once >> log.txt\nTOOL:bash setsid sleep 600 & disown; sleep 600";
    let task = served.talk.submit(session.id, "opencode", prompt).await;
    let running = |event: &EventView| {
        event.kind == "tool_update"
            && format!("{:?}", event.input).contains("sleep 600")
            && format!("{:?}", event.input).contains("running")
    };
    served.talk.follow(task.id, running).await;
    served.signal(Signal::SIGKILL);
    served.ended().await;
    place.nothing_is_left();

    let served = place.serve().await;
    // The interrupted prompt would sleep again; what matters is what the retry finds.
    let again = std::sync::atomic::AtomicBool::new(false);
    let running_again = |event: &EventView| {
        if event.kind == "turn_started" && event.input.as_ref().unwrap()["attempt"] == 2 {
            again.store(true, Relaxed);
        }
        again.load(Relaxed) && running(event)
    };
    served.talk.follow(task.id, running_again).await;
    let worktree: agentpool::wire::api::SessionView =
        served.talk.get(&format!("/api/sessions/{}", session.id)).await;
    let log =
        std::fs::read_to_string(std::path::Path::new(&worktree.worktree.unwrap()).join("log.txt")).unwrap();
    assert_eq!(log, "once\n", "the retry began from the checkpoint before the first try");
    let _: TaskView =
        served.talk.post(&format!("/api/tasks/{}/cancel", task.id), &(), StatusCode::ACCEPTED).await;
    let (task, _) = served.talk.finish(task.id).await;
    assert_eq!((task.status.as_str(), task.attempt, task.failures), ("cancelled", 2, 0), "{task:?}");
    let pending = format!("/api/sessions/{}/changes?status=pending", session.id);
    let changes: Vec<ChangeView> = served.talk.get(&pending).await;
    assert_eq!(changes.len(), 1, "{changes:?}");
    served.signal(Signal::SIGTERM);
    assert_eq!(served.ended().await.0.code(), Some(0));
    place.nothing_is_left();
}

/// A turn that has begun to speak.
async fn slow_turn(talk: &Talk, prompt: &str) -> TaskView {
    let session = talk.session().await;
    let task = talk.submit(session.id, "scripted", prompt).await;
    talk.follow(task.id, |event| event.kind == "text").await;
    task
}
