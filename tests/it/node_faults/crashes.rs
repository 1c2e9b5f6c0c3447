//! A node that dies between any two of its commits.

use crate::support::cluster::{TestDatabase, fresh_database};
use crate::support::serve::{Place, SCRIPTED};
use agentpool::failpoint::PLACES;
use agentpool::wire::api::ChangeView;
use futures::future::join_all;
use nix::sys::signal::Signal;
use std::os::unix::process::ExitStatusExt;

/// Long enough for a renewal, which comes after 5 s.
const LONG: &str = "SLOW:300\nTOOL:write a.txt one\nSAY: done";
const SHORT: &str = "TOOL:write a.txt one\nSAY: done";

/// Starts a node that dies at each of `places` in turn, then one that does not, and looks at what became of the task.
async fn dies_at(database: &TestDatabase, places: &[&str]) {
    let place = Place::on(database, SCRIPTED);
    let prompt = if places.contains(&"renewed") { LONG } else { SHORT };
    let mut task = None;
    for failpoint in places {
        let served = place.serve_with(&[("FAILPOINTS", &format!("{failpoint}=kill"))]).await;
        if task.is_none() {
            let session = served.talk.session().await;
            task = Some((session.id, served.talk.submit(session.id, "scripted", prompt).await.id));
        }
        let (status, said) = served.ended().await;
        assert_eq!(status.signal(), Some(Signal::SIGKILL as i32), "{places:?}: {said:#?}");
    }
    let (session, task) = task.expect("one was submitted");
    let served = place.serve().await;
    let (ended, events) = served.talk.finish(task).await;
    assert_eq!((ended.status.as_str(), ended.failures), ("completed", 0), "{places:?}: {ended:?}");
    assert!(ended.output.as_deref().is_some_and(|output| output.ends_with("done")), "{places:?}: {ended:?}");
    let numbers: Vec<i64> = events.iter().map(|event| event.seq).collect();
    assert_eq!(numbers, (1..=numbers.len() as i64).collect::<Vec<_>>(), "{places:?}: no gap, nothing twice");
    let changes: Vec<ChangeView> =
        served.talk.get(&format!("/api/sessions/{session}/changes?status=pending")).await;
    let paths: Vec<&str> = changes.iter().map(|change| change.path.as_str()).collect();
    assert_eq!(paths, ["a.txt"], "{places:?}: listed once");
    let next = served.talk.turn(session, "scripted", "SAY: the lane goes on").await;
    assert_eq!(next.status, "completed", "{places:?}: {next:?}");
    served.signal(Signal::SIGTERM);
    assert_eq!(served.ended().await.0.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn f04_f05_a_crash_between_any_two_commits_loses_nothing_and_ends_the_task_once() {
    let database = fresh_database().await;
    // One is reached by a second try only.
    let (second, first): (Vec<&str>, Vec<&str>) =
        PLACES.into_iter().partition(|place| *place == "interrupted_saved");
    let mut histories: Vec<Vec<&str>> = first.into_iter().map(|place| vec![place]).collect();
    histories.extend(second.into_iter().map(|place| vec!["begun", place]));
    join_all(histories.iter().map(|places| dies_at(&database, places))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f13_a_turn_that_panics_fails_alone_and_is_counted() {
    let database = fresh_database().await;
    let place = Place::on(&database, SCRIPTED);
    let served = place.serve_with(&[("FAILPOINTS", "begun=panic")]).await;
    let session = served.talk.session().await;
    let task = served.talk.submit_with(session.id, "scripted", "SAY: never said", 1).await;
    let (task, _) = served.talk.finish(task.id).await;
    assert_eq!(
        (task.status.as_str(), task.failure_reason.as_deref()),
        ("failed", Some("internal")),
        "{task:?}"
    );
    let health: serde_json::Value = served.talk.get("/healthz").await;
    assert_eq!((health["panics"].as_u64(), health["status"].as_str()), (Some(1), Some("ok")), "{health}");
    served.signal(Signal::SIGTERM);
    assert_eq!(served.ended().await.0.code(), Some(0), "the process lived on");
}

#[tokio::test(flavor = "multi_thread")]
async fn f13_a_node_whose_turns_panic_one_after_the_other_ends_and_its_tasks_wait_for_the_next_start() {
    let database = fresh_database().await;
    let place = Place::on(&database, SCRIPTED);
    let served = place.serve_with(&[("FAILPOINTS", "begun=panic")]).await;
    let talk = served.talk.clone();
    let mut sessions = Vec::new();
    for _ in 0..30 {
        sessions.push(talk.session().await.id);
    }
    let sql = talk.sql().await;
    let insert = "INSERT INTO agentpool.tasks (session_id, agent, prompt, max_failures)
                  SELECT id, 'scripted', 'SAY: in the end', 1 FROM unnest($1::uuid[]) id RETURNING id";
    let tasks: Vec<uuid::Uuid> =
        sql.query(insert, &[&sessions]).await.unwrap().iter().map(|row| row.get(0)).collect();
    let (status, said) = served.ended().await;
    assert_eq!(status.code(), Some(1), "{said:#?}");
    assert!(said.iter().any(|line| line.contains("too many turns met a defect")), "{said:#?}");
    let served = place.serve().await;
    let mut ends = std::collections::BTreeMap::new();
    for task in tasks {
        *ends.entry(served.talk.finish(task).await.0.status).or_insert(0) += 1;
    }
    assert!(
        ends["failed"] >= 20 && ends["failed"] + ends.get("completed").copied().unwrap_or(0) == 30,
        "{ends:?}"
    );
    served.signal(Signal::SIGTERM);
    assert_eq!(served.ended().await.0.code(), Some(0));
}
