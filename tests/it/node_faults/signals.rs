//! TERM in every state, once and twice, with and without a database. What a second one does on a running turn is in
//! `serve.rs`.

use crate::support::cluster::{TEST_SETTINGS, cluster_folder, fresh_database};
use crate::support::serve::{Place, SCRIPTED, Served};
use crate::support::shims::{agentpool, fresh_mark};
use agentpool::embedded_postgres::{EmbeddedPostgres, find_binaries};
use agentpool::process::Shims;
use agentpool::wire::api::TaskView;
use nix::sys::signal::Signal;
use reqwest::StatusCode;

#[tokio::test(flavor = "multi_thread")]
async fn f08_a_node_without_work_ends_with_0_and_leaves_no_lease() {
    let database = fresh_database().await;
    let place = Place::on(&database, SCRIPTED);
    let served = place.serve().await;
    let session = served.talk.session().await;
    assert_eq!(served.talk.turn(session.id, "scripted", "SAY: once").await.status, "completed");
    let talk = served.talk.clone();
    served.signal(Signal::SIGTERM);
    assert_eq!(served.ended().await.0.code(), Some(0));
    let sql = talk.sql().await;
    let leased: i64 =
        sql.query_one("SELECT count(*) FROM agentpool.lanes WHERE state = 2", &[]).await.unwrap().get(0);
    assert_eq!(leased, 0);
}

/// A node with this drain timeout in a turn that does as `prompt` says, and its task.
async fn in_a_turn(place: &Place, prompt: &str) -> (Served, TaskView) {
    let served = place.serve().await;
    let session = served.talk.session().await;
    let task = served.talk.submit(session.id, "scripted", prompt).await;
    served.talk.follow(task.id, |event| event.kind == "text").await;
    (served, task)
}

#[tokio::test(flavor = "multi_thread")]
async fn f09_a_turn_longer_than_the_drain_timeout_goes_back_uncharged_however_deaf_its_agent() {
    let database = fresh_database().await;
    let place = Place::on(&database, &format!("drain_timeout_secs = 1\n{SCRIPTED}"));
    let (served, task) = in_a_turn(&place, "SAY: begun\nHANG:deaf").await;
    let talk = served.talk.clone();
    served.signal(Signal::SIGTERM);
    talk.until(&format!(
        "SELECT status = 'queued' AND failures = 0 FROM agentpool.tasks WHERE id = '{}'",
        task.id
    ))
    .await;
    let (status, said) = served.ended().await;
    assert_eq!(status.code(), Some(0), "{said:#?}");
    talk.until("SELECT count(*) = 0 FROM agentpool.lanes WHERE state = 2").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f10_a_second_signal_ends_also_what_was_asked_to_stop_already() {
    let database = fresh_database().await;
    let place = Place::on(&database, &format!("drain_timeout_secs = 0\n{SCRIPTED}"));
    let (served, task) = in_a_turn(&place, "SAY: begun\nHANG:deaf").await;
    served.signal(Signal::SIGTERM);
    while reqwest::get(format!("{}/readyz", served.talk.url))
        .await
        .is_ok_and(|it| it.status() == StatusCode::OK)
    {}
    served.signal(Signal::SIGINT);
    let talk = served.talk.clone();
    let (status, said) = served.ended().await;
    assert_eq!(status.code(), Some(0), "{said:#?}");
    talk.until(&format!(
        "SELECT status = 'queued' AND failures = 0 FROM agentpool.tasks WHERE id = '{}'",
        task.id
    ))
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f11_a_node_told_to_stop_without_its_database_ends_says_so_and_the_next_start_ends_its_task_once() {
    let (folder, lock) = cluster_folder("f11");
    let shims = Shims::new(agentpool(), fresh_mark(), Some(lock));
    let bins = find_binaries(&folder).expect("PostgreSQL, as the other tests have it");
    let start =
        async || EmbeddedPostgres::start_with(&folder, &shims, bins.clone(), &TEST_SETTINGS).await.unwrap();
    let postgres = start().await;
    let place = Place::at(&postgres.config(), &format!("drain_timeout_secs = 1\n{SCRIPTED}"));
    let (served, task) = in_a_turn(&place, "SAY: begun\nSLOW:150\nTOOL:write a.txt one").await;
    postgres.stop().await;
    served.signal(Signal::SIGTERM);
    let (status, said) = served.ended().await;
    assert_eq!(status.code(), Some(69), "{said:#?}");
    assert!(said.iter().any(|line| line.contains("could not be written")), "{said:#?}");
    let postgres = start().await;
    let served = place.serve().await;
    let (task, _) = served.talk.finish(task.id).await;
    assert_eq!((task.status.as_str(), task.failures), ("completed", 0), "{task:?}");
    served.signal(Signal::SIGTERM);
    assert_eq!(served.ended().await.0.code(), Some(0));
    postgres.stop().await;
}
