//! A node that stands still: its threads blocked, or the whole process stopped for longer than a lease.

use crate::support::cluster::fresh_database;
use crate::support::leaks::marked_processes;
use crate::support::opencode::{model_config, opencode_program};
use crate::support::serve::{Place, SCRIPTED};
use agentpool::scripted_model::ScriptedModel;
use nix::sys::signal::Signal;
use std::time::Duration;

#[tokio::test(flavor = "multi_thread")]
async fn f15_a_blocked_runtime_is_told_by_its_watchdog_fails_livez_and_loses_no_lease() {
    let database = fresh_database().await;
    let place = Place::on(&database, &format!("hands = 8\n{SCRIPTED}"));
    // Each turn blocks the thread that it runs on: eight of them leave no thread of a small machine free.
    let served = place.serve_with(&[("FAILPOINTS", "begun=block:5000"), ("TOKIO_WORKER_THREADS", "2")]).await;
    let mut tasks = Vec::new();
    for _ in 0..4 {
        let session = served.talk.session().await;
        tasks.push(served.talk.submit(session.id, "scripted", "SAY: after all").await.id);
    }
    served.says("the event loop does not turn").await;
    let livez =
        reqwest::Client::new().get(format!("{}/livez", served.talk.url)).timeout(Duration::from_millis(500));
    assert!(livez.send().await.is_err(), "nobody answers while every thread is blocked");
    for task in tasks {
        let (task, _) = served.talk.finish(task).await;
        assert_eq!((task.status.as_str(), task.attempt), ("completed", 1), "{task:?}");
    }
    served.signal(Signal::SIGTERM);
    assert_eq!(served.ended().await.0.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn f06_a_node_stopped_past_its_lease_loses_its_agents_and_runs_the_turn_again_uncharged() {
    let model = ScriptedModel::start(0).unwrap();
    let database = fresh_database().await;
    let program = opencode_program().await;
    let place = Place::on(
        &database,
        &format!(
            "[agents.opencode]\nbackend = \"opencode_server\"\ncommand = {program:?}\nhome = \"isolated\"\n\
             [agents.opencode.env]\nOPENCODE_DISABLE_MODELS_FETCH = \"1\"\nOPENCODE_CONFIG_CONTENT = '''{}'''",
            model_config(&model.base_url())
        ),
    );
    let served = place.serve().await;
    let session = served.talk.session().await;
    // 30 s of words, so that it is in the middle of them when it is stopped.
    let task = served.talk.submit(session.id, "opencode", "SLOW:300").await;
    served.talk.follow(task.id, |event| event.kind == "text").await;
    assert!(!marked_processes(&place.mark()).is_empty(), "opencode at least");
    served.signal(Signal::SIGSTOP);
    place.nothing_is_left();
    served.signal(Signal::SIGCONT);
    let id = task.id;
    served
        .talk
        .until(&format!("SELECT attempt = 2 AND failures = 0 FROM agentpool.tasks WHERE id = '{id}'"))
        .await;
    served.talk.until(&format!("SELECT status = 'running' FROM agentpool.tasks WHERE id = '{id}'")).await;
    served.talk.cancel(id).await;
    let (task, _) = served.talk.finish(id).await;
    assert_eq!((task.status.as_str(), task.attempt, task.failures), ("cancelled", 2, 0), "{task:?}");
    served.signal(Signal::SIGTERM);
    assert_eq!(served.ended().await.0.code(), Some(0));
    place.nothing_is_left();
}
