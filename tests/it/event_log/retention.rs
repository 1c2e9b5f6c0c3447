//! Old weeks of the log go, and nothing of a task that has not ended.

use crate::support::queue::Queue;

/// A task of so many days ago with one event. `ended` says whether it has.
async fn old(queue: &Queue, days: i32, ended: bool) -> uuid::Uuid {
    let session = queue.session().await;
    let put = "WITH moment AS (SELECT clock_timestamp() - make_interval(days => $1) AS at),
                    made AS (SELECT (substr(agentpool.uuid_floor(at)::text, 1, 14) || '7000-8000-' || lpad($1::text, 12, '0'))::uuid AS id, at FROM moment),
                    task AS (INSERT INTO agentpool.tasks (id, created_at, session_id, agent, prompt, status, finished_at, run_at)
                             SELECT id, at, $2, 'a', 'x', CASE WHEN $3 THEN 'completed' ELSE 'queued' END, CASE WHEN $3 THEN at END,
                                    clock_timestamp() + interval '1 day' FROM made)
               INSERT INTO agentpool.task_messages (task_id, seq, session_id, pos, type) SELECT id, 1, $2, 1, 'text' FROM made
               RETURNING task_id";
    queue.sql.query_one(put, &[&days, &session, &ended]).await.unwrap().get(0)
}

#[tokio::test]
async fn weeks_past_their_days_are_taken_out_but_for_tasks_that_have_not_ended() {
    let queue = Queue::new().await;
    let make = "SELECT agentpool.make_partitions(clock_timestamp() - interval '80 days')";
    queue.sql.batch_execute(make).await.unwrap();
    let (long_ago, waiting, young) =
        (old(&queue, 70, true).await, old(&queue, 50, false).await, old(&queue, 20, true).await);
    let kept = async |task| -> i64 {
        let query = "SELECT count(*) FROM agentpool.task_messages WHERE task_id = $1";
        queue.sql.query_one(query, &[&task]).await.unwrap().get(0)
    };
    let weeks = queue.store.drop_old_events(30).await.unwrap();
    assert!((4..=7).contains(&weeks), "{weeks}");
    assert_eq!((kept(long_ago).await, kept(waiting).await, kept(young).await), (0, 1, 1));
    assert_eq!(queue.store.drop_old_events(30).await.unwrap(), 0, "all that may go has gone");

    // It ends; and a removal is interrupted between its two steps.
    let end = "UPDATE agentpool.tasks SET status = 'completed', finished_at = clock_timestamp() WHERE status = 'queued'";
    queue.sql.batch_execute(end).await.unwrap();
    let name: String = queue.one("SELECT min(inhrelid::regclass::text) FROM pg_inherits WHERE inhparent = 'agentpool.task_messages'::regclass").await;
    queue
        .sql
        .batch_execute(&format!("ALTER TABLE agentpool.task_messages DETACH PARTITION {name}"))
        .await
        .unwrap();
    assert_eq!(queue.store.drop_old_events(30).await.unwrap(), 1, "what was left half-way is gone on with");
    assert_eq!((kept(waiting).await, kept(young).await), (0, 1));
    let gone: bool = queue.one(&format!("SELECT to_regclass('{name}') IS NULL")).await;
    assert!(gone, "{name}");
}
