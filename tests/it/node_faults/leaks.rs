//! What a node holds after much work is what it held after a little.

use crate::support::cluster::fresh_database;
use crate::support::leaks::until;
use crate::support::node::PATIENCE;
use crate::support::serve::{Place, SCRIPTED, Served};
use futures::future::join_all;
use nix::sys::signal::Signal;
use std::collections::BTreeMap;
use std::fs;

/// Open descriptors of a process by kind, sockets aside: pools open and close those as they like, up to their size.
fn descriptors(pid: u32) -> BTreeMap<String, usize> {
    let mut kinds = BTreeMap::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fd")).unwrap().filter_map(Result::ok) {
        let Ok(target) = fs::read_link(entry.path()) else { continue };
        let target = target.to_string_lossy().into_owned();
        let kind = target.split(":[").next().unwrap_or_default().to_owned();
        if kind != "socket" {
            *kinds.entry(kind).or_insert(0) += 1;
        }
    }
    kinds
}

fn sockets(pid: u32) -> usize {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().filter_map(Result::ok);
    entries
        .filter(|entry| {
            fs::read_link(entry.path()).is_ok_and(|to| to.to_string_lossy().starts_with("socket"))
        })
        .count()
}

/// Children of a process that ended and that it did not collect.
fn zombies_of(pid: u32) -> usize {
    let stats = fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| fs::read_to_string(entry.ok()?.path().join("stat")).ok());
    stats
        .filter_map(|stat| {
            let (_, rest) = stat.rsplit_once(')')?;
            let mut fields = rest.split_ascii_whitespace();
            (fields.next()? == "Z" && fields.next()? == pid.to_string()).then_some(())
        })
        .count()
}

/// Turns that end well, fail, are cancelled and crash, in four sessions at once.
async fn much_work(served: &Served) {
    let work = (0..4).map(async |_| {
        let talk = &served.talk;
        let session = talk.session().await.id;
        for prompt in [
            "TOOL:write a.txt x\nSAY: well",
            "FAIL:bad_request",
            "CRASHx1\nSAY: again",
            "TOOL:write a.txt y\nSAY: well",
        ] {
            let task = talk.submit_with(session, "scripted", prompt, 2).await;
            talk.finish(task.id).await;
        }
        let task = talk.submit(session, "scripted", "SAY: begun\nHANG").await;
        talk.follow(task.id, |event| event.kind == "text").await;
        talk.cancel(task.id).await;
        talk.finish(task.id).await;
    });
    join_all(work).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_holds_no_more_descriptors_and_no_zombies_after_much_work() {
    let database = fresh_database().await;
    let place = Place::on(&database, SCRIPTED);
    let served = place.serve().await;
    much_work(&served).await;
    let (before, sockets_before) = (descriptors(served.pid()), sockets(served.pid()));
    for _ in 0..3 {
        much_work(&served).await;
    }
    let settled = || descriptors(served.pid()) == before && sockets(served.pid()) <= sockets_before + 8;
    until("as many descriptors as before", PATIENCE, settled).await;
    until("no zombies", PATIENCE, || zombies_of(served.pid()) == 0).await;
    served.signal(Signal::SIGTERM);
    assert_eq!(served.ended().await.0.code(), Some(0));
}
