//! F93: a cancel races a completion, thousands of times.

use crate::support::queue::{Node, Queue, completed, ended, plain, requeued};
use agentpool::dispatch::task_source::{Finish, FinishOutcome};
use agentpool::domain::failure::FailureReason;
use agentpool::domain::task::{ClaimedTask, TaskStatus};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

const LANES: usize = 100;
const ROUNDS: usize = 30;
const CANCELLERS: usize = 4;

/// How the turn ends that a cancel meets: by number, so that each meets each.
fn end(task: &ClaimedTask, number: usize) -> Finish {
    match number % 4 {
        0 => requeued(task, Duration::ZERO, FailureReason::AgentCrashed, true),
        1 if task.cancel_requested => ended(task, TaskStatus::Cancelled),
        _ => completed(task),
    }
}

/// Claims and ends until nothing is left; some turns one by one, so that cancels fall between.
async fn work(node: &Node) {
    let mut number = 0;
    loop {
        let claimed = node.take(7).await;
        if claimed.is_empty() {
            return;
        }
        for some in claimed.chunks(3) {
            let mut ends: Vec<Finish> = some.iter().map(|task| (number += 1, end(task, number)).1).collect();
            // A row that a cancel has locked at that moment is passed over, and its end comes again.
            while !ends.is_empty() {
                let outcomes = node.finish(&ends).await;
                assert!(!outcomes.contains(&FinishOutcome::LostLease), "{outcomes:?}");
                let mut outcomes = outcomes.into_iter();
                ends.retain(|_| outcomes.next() == Some(FinishOutcome::Again));
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn f93_of_thousands_of_cancels_that_race_completions_each_task_has_exactly_one_end() {
    let queue = Arc::new(Queue::new().await);
    // What the rows went through: a task that ended twice shows here, and nowhere else.
    let watch = "CREATE TABLE public.ends (task uuid, status text);
        CREATE FUNCTION public.note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            INSERT INTO public.ends VALUES (NEW.id, NEW.status); RETURN NULL; END $$;
        CREATE TRIGGER ends AFTER UPDATE OF status ON agentpool.tasks FOR EACH ROW
            WHEN (NEW.finished_at IS NOT NULL) EXECUTE FUNCTION public.note()";
    queue.sql.batch_execute(watch).await.unwrap();
    let nodes = [queue.node().await, queue.node().await];
    let mut sessions = Vec::new();
    for _ in 0..LANES {
        sessions.push(queue.session().await);
    }
    let mut said: HashMap<Uuid, bool> = HashMap::new();
    for _ in 0..ROUNDS {
        let mut ids = Vec::new();
        for session in &sessions {
            ids.push(queue.put(&plain(*session, "x")).await);
        }
        let mut cancels = tokio::task::JoinSet::new();
        for chunk in ids.chunks(LANES / CANCELLERS) {
            let (queue, chunk) = (queue.clone(), chunk.to_vec());
            cancels.spawn(async move {
                let mut said = Vec::new();
                for id in chunk {
                    said.push((id, queue.store.ask_cancel(id).await.unwrap()));
                }
                said
            });
        }
        tokio::join!(work(&nodes[0]), work(&nodes[1]));
        while let Some(done) = cancels.join_next().await {
            said.extend(done.unwrap());
        }
        // What was asked for after the last claim of a lane that another node held.
        work(&nodes[0]).await;
        work(&nodes[1]).await;
    }
    let rows =
        queue.sql.query("SELECT task, array_agg(status) FROM public.ends GROUP BY task", &[]).await.unwrap();
    assert_eq!(rows.len(), LANES * ROUNDS, "tasks that ended");
    let mut seen: HashMap<(bool, String), usize> = HashMap::new();
    for row in rows {
        let (task, mut ends): (Uuid, Vec<String>) = (row.get(0), row.get(1));
        assert_eq!(ends.len(), 1, "{task} ended as {ends:?}");
        *seen.entry((said[&task], ends.remove(0))).or_default() += 1;
    }
    println!("asked in time, and the end: {seen:?}");
    // A cancel that came too late says so; one that was taken may still lose to the completion.
    assert!(seen.keys().all(|(asked, status)| *asked || status == "completed"), "{seen:?}");
    for outcome in [(true, "cancelled"), (true, "completed"), (false, "completed")] {
        assert!(
            seen.contains_key(&(outcome.0, outcome.1.to_owned())),
            "the race never came out as {outcome:?}: {seen:?}"
        );
    }
    queue.assert_lanes_are_sound().await;
}
