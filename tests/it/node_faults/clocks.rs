//! Clocks that are wrong. Leases are judged by the database's clock and by time that passes here, never by the time of day.

use crate::support::cluster::fresh_database;
use crate::support::serve::{Place, SCRIPTED};
use chrono::{DateTime, Utc};
use nix::sys::signal::Signal;

#[tokio::test(flavor = "multi_thread")]
async fn f18_nodes_whose_clocks_are_hours_apart_take_nothing_from_each_other() {
    let database = fresh_database().await;
    let (early, late) = (Place::on(&database, SCRIPTED), Place::on(&database, SCRIPTED));
    let (early, late) = (early.serve_at("-1h").await, late.serve_at("+1h").await);
    for (served, other) in [(&early, &late), (&late, &early)] {
        // Longer than the wait between two looks of the other, and than a renewal.
        let session = served.talk.session().await;
        let task = served.talk.submit(session.id, "scripted", "SLOW:320").await;
        let beside = other.talk.session().await;
        assert_eq!(other.talk.turn(beside.id, "scripted", "SAY: beside it").await.status, "completed");
        let (task, _) = served.talk.finish(task.id).await;
        assert_eq!((task.status.as_str(), task.attempt), ("completed", 1), "{task:?}");
    }
    for (served, ahead) in [(early, -1), (late, 1)] {
        served.signal(Signal::SIGTERM);
        let (status, said) = served.ended().await;
        assert_eq!(status.code(), Some(0));
        let line: serde_json::Value = serde_json::from_str(&said[0]).unwrap();
        let told: DateTime<Utc> = line["timestamp"].as_str().unwrap().parse().unwrap();
        assert_eq!((told - Utc::now()).num_minutes().signum(), ahead, "its clock was off: {line}");
        assert!(!said.iter().any(|line| line.contains("went back to the queue")), "{said:#?}");
    }
}
