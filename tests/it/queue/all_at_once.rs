//! Many claimers and enqueuers: nothing is lost, reordered or run twice.

use crate::support::queue::{DEADLINE, Node, Queue, completed, plain};
use agentpool::dispatch::task_source::FinishOutcome;
use agentpool::domain::ids::{NodeId, SessionId};
use agentpool::domain::task::ClaimedTask;
use agentpool::store::Store;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Instant;
use uuid::Uuid;

const LANES: usize = 100;
const ENQUEUERS: usize = 2;
const CLAIMERS: usize = 8;
const TASKS: usize = 5_000;

/// What all claimers together have seen.
#[derive(Default)]
struct Ledger {
    running: HashSet<SessionId>,
    last: HashMap<(SessionId, usize), usize>,
    done: usize,
}

impl Ledger {
    fn claimed(&mut self, task: &ClaimedTask) {
        assert!(self.running.insert(task.lease.session), "two turns at once in {}", task.lease.session);
        assert_eq!(task.attempt, 1, "claimed twice: {}", task.lease.task);
        let (who, number) = task.prompt.split_once(' ').unwrap();
        let (who, number): (usize, usize) = (who.parse().unwrap(), number.parse().unwrap());
        let last = self.last.insert((task.lease.session, who), number);
        assert!(last.is_none_or(|last| last < number), "{last:?} ran before {number}");
    }

    fn ending(&mut self, task: &ClaimedTask) {
        self.running.remove(&task.lease.session);
        self.done += 1;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn eight_claimers_and_two_enqueuers_lose_reorder_and_overlap_nothing() {
    let queue = Arc::new(Queue::new().await);
    let mut sessions = Vec::new();
    for _ in 0..LANES {
        sessions.push(queue.session().await);
    }
    let begun = Instant::now();
    let ledger = Arc::new(Mutex::new(Ledger::default()));
    let mut work = tokio::task::JoinSet::new();
    for who in 0..ENQUEUERS {
        let (queue, sessions) = (queue.clone(), sessions.clone());
        work.spawn(async move {
            for number in 0..TASKS / ENQUEUERS {
                let session = sessions[(number * 7 + who * 3) % LANES];
                queue.put(&plain(session, &format!("{who} {number}"))).await;
            }
        });
    }
    for _ in 0..CLAIMERS {
        let (node, ledger) = (queue.node().await, ledger.clone());
        work.spawn(async move { claim_until_all_is_done(&node, &ledger, begun).await });
    }
    // Without this each lane would soon belong to one claimer and nobody would compete for it.
    let (wanderer, all) = (queue.psql().await, ledger.clone());
    work.spawn(async move {
        let wander = "UPDATE agentpool.lanes SET home_node = '00000000-0000-0000-0000-000000000000' WHERE session_id IN
                      (SELECT session_id FROM agentpool.lanes WHERE state <> 2 ORDER BY session_id FOR UPDATE SKIP LOCKED)";
        while all.lock().unwrap().done < TASKS {
            wanderer.batch_execute(wander).await.unwrap();
            assert!(begun.elapsed() < DEADLINE * 3);
        }
    });
    while let Some(worker) = work.join_next().await {
        worker.unwrap();
    }
    let secs = begun.elapsed().as_secs_f64();
    println!("{TASKS} tasks, {LANES} lanes, {CLAIMERS} claimers: {:.0} per s", TASKS as f64 / secs);
    let (finished, disorder): (i64, i64) = (
        queue.one("SELECT count(*) FROM agentpool.tasks WHERE status = 'completed' AND attempt = 1").await,
        queue
            .one(
                "SELECT count(*) FROM (SELECT lane_position, dispatched_at, finished_at,
                     lag(lane_position) OVER lane AS before, lag(finished_at) OVER lane AS free_at
                 FROM agentpool.tasks WINDOW lane AS (PARTITION BY session_id ORDER BY dispatched_at)) t
                 WHERE before + 1 <> lane_position OR dispatched_at < free_at",
            )
            .await,
    );
    assert_eq!((finished, disorder), (TASKS as i64, 0));
    queue.assert_lanes_are_sound().await;
}

async fn claim_until_all_is_done(node: &Node, ledger: &Mutex<Ledger>, begun: Instant) {
    let mut ends = Vec::new();
    loop {
        node.admit().await;
        let tick = node.tick(&ends, 8, &["a"]).await;
        assert!(tick.finished.iter().all(|end| *end == FinishOutcome::Done), "{:?}", tick.finished);
        let mut ledger = ledger.lock().unwrap();
        tick.claimed.iter().for_each(|task| ledger.claimed(task));
        // From here on another node may have the lane: what follows is the tick that commits the end.
        tick.claimed.iter().for_each(|task| ledger.ending(task));
        ends = tick.claimed.iter().map(completed).collect();
        if ends.is_empty() && ledger.done == TASKS {
            return;
        }
        assert!(begun.elapsed() < DEADLINE * 3, "only {} of {TASKS} ran", ledger.done);
    }
}

#[tokio::test]
async fn a_store_that_is_closed_answers_unavailable() {
    let queue = Queue::new().await;
    let store = Store::new(queue.db.config.clone(), queue.db.config.clone());
    let node = NodeId(Uuid::new_v4());
    store.register_node(node.0, Uuid::new_v4(), "host").await.unwrap();
    store.close();
    assert!(store.admit().await.unwrap_err().is_transient());
}
