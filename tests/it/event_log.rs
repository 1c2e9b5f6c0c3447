//! The event log on real rows: contiguous, fenced, ordered by commit, clean; and the writer that fills it.

use crate::support::queue::{DEADLINE, Node, Queue, agent, batch, completed, plain, requeued, text};
use agentpool::dispatch::event_writer::{EventWriter, WriteEnded};
use agentpool::dispatch::task_source::{
    AppendOutcome, EventBatch, LoggedEvent, PermissionAsk, TaskSource, TurnBegin, TurnResult,
};
use agentpool::domain::agent::BackendKind;
use agentpool::domain::change::{ChangeOperation, DIFF_BYTES_MAX, FileChange};
use agentpool::domain::failure::FailureReason;
use agentpool::domain::ids::TaskId;
use agentpool::domain::permission::{PermissionDecision, PermissionKind, PermissionRequest};
use agentpool::domain::task::ClaimedTask;
use agentpool::domain::text::clean_bytes;
use agentpool::domain::turn::{PlanEntry, ToolCall, ToolStatus, TurnEvent};
use agentpool::domain::usage::Usage;
use agentpool::store::events::EventRow;
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::broadcast;
use uuid::Uuid;

async fn running(queue: &Queue, node: &Node) -> ClaimedTask {
    queue.put(&plain(queue.session().await, "x")).await;
    node.take_one().await
}

async fn stream(queue: &Queue, session: Uuid) -> Vec<EventRow> {
    queue.store.session_events(session, 0, 100_000).await.unwrap()
}

fn contents(rows: &[EventRow]) -> Vec<&str> {
    rows.iter().filter_map(|row| row.content.as_deref()).collect()
}

// ---- append ----------------------------------------------------------------------------------------------------------

#[tokio::test]
async fn numbers_follow_each_other_or_are_refused() {
    let queue = Queue::new().await;
    let node = queue.node().await;
    let task = running(&queue, &node).await;
    assert_eq!(node.say(task.lease, 0, &["1", "2"]).await, AppendOutcome::Done);
    assert_eq!(node.say(task.lease, 3, &["4"]).await, AppendOutcome::Gap { expected: 3 });
    assert_eq!(node.say(task.lease, 2, &["3"]).await, AppendOutcome::Done);
    let rows = stream(&queue, task.lease.session.0).await;
    assert_eq!(contents(&rows), ["1", "2", "3"]);
    assert_eq!(rows.iter().map(|row| (row.seq, row.pos)).collect::<Vec<_>>(), [(1, 1), (2, 2), (3, 3)]);
}

#[tokio::test]
async fn a_batch_whose_answer_was_lost_is_stored_once() {
    let queue = Queue::new().await;
    let node = queue.node().await;
    let task = running(&queue, &node).await;
    for _ in 0..3 {
        assert_eq!(node.say(task.lease, 0, &["1", "2"]).await, AppendOutcome::Done);
    }
    assert_eq!(
        node.say(task.lease, 1, &["2", "3"]).await,
        AppendOutcome::Gap { expected: 3 },
        "half known is a defect of the writer"
    );
    assert_eq!(contents(&stream(&queue, task.lease.session.0).await), ["1", "2"]);
    assert_eq!(queue.store.stream_end(task.lease.session.0).await.unwrap(), 2, "the cursor moved once");
}

#[tokio::test]
async fn each_batch_of_a_call_has_its_own_outcome() {
    let queue = Queue::new().await;
    let node = queue.node().await;
    let (good, gap, lost) =
        (running(&queue, &node).await, running(&queue, &node).await, running(&queue, &node).await);
    node.complete(&lost).await;
    let outcomes = node
        .source
        .append(&[
            batch(good.lease, 1, &["a", "b"]),
            batch(gap.lease, 9, &["c"]),
            batch(lost.lease, 1, &["d"]),
        ])
        .await
        .unwrap();
    use AppendOutcome::{Done, Gap, LostLease};
    assert_eq!(outcomes, [Done, Gap { expected: 1 }, LostLease]);
    assert_eq!(contents(&stream(&queue, good.lease.session.0).await), ["a", "b"]);
    assert_eq!(queue.one::<i64>("SELECT count(*) FROM agentpool.task_messages").await, 2);
}

#[tokio::test]
async fn a_zombies_batch_beside_its_successors_is_refused_alone() {
    let queue = Queue::new().await;
    let node = queue.node().await;
    let zombie = running(&queue, &node).await;
    node.finish(&[requeued(&zombie, Duration::ZERO, FailureReason::NodeLost, false)]).await;
    let owner = node.take_one().await;
    for order in [[&zombie, &owner], [&owner, &zombie]] {
        let first = queue.store.stream_end(owner.lease.session.0).await.unwrap() + 1;
        let call = order.map(|task| batch(task.lease, first, &[&format!("of {}", task.attempt)]));
        let outcomes = node.source.append(&call).await.unwrap();
        for (task, outcome) in order.iter().zip(outcomes) {
            let mine = task.attempt == owner.attempt;
            assert_eq!(outcome, if mine { AppendOutcome::Done } else { AppendOutcome::LostLease });
        }
    }
    assert_eq!(contents(&stream(&queue, owner.lease.session.0).await), ["of 2", "of 2"]);
}

#[tokio::test]
async fn numbers_of_a_task_go_on_in_its_next_attempt_and_positions_in_its_session() {
    let queue = Queue::new().await;
    let (session, node) = (queue.session().await, queue.node().await);
    queue.put_all(session, &["x", "y"]).await;
    let first = node.take_one().await;
    node.say(first.lease, 0, &["1", "2"]).await;
    node.finish(&[requeued(&first, Duration::ZERO, FailureReason::NodeLost, false)]).await;
    let second = node.take_one().await;
    assert_eq!(second.last_seq, 2);
    assert_eq!(node.say(second.lease, 2, &["3"]).await, AppendOutcome::Done);
    node.complete(&second).await;
    let other = node.take_one().await;
    assert_eq!(other.last_seq, 0);
    assert_eq!(node.say(other.lease, 0, &["4"]).await, AppendOutcome::Done);
    let rows = stream(&queue, session).await;
    let numbers: Vec<_> = rows.iter().map(|row| (row.pos, row.seq)).collect();
    assert_eq!(numbers, [(1, 1), (2, 2), (3, 3), (4, 1)]);
    let of_task = queue.store.task_events(first.lease.task.0, session, 1, 10).await.unwrap();
    assert_eq!(of_task.iter().map(|row| row.pos).collect::<Vec<_>>(), [2, 3]);
}

#[tokio::test]
async fn an_append_renews_the_lease() {
    let queue = Queue::new().await;
    let node = queue.node().await;
    let task = running(&queue, &node).await;
    let session = task.lease.session.0;
    let before = queue.lane(session, "lease_until").await;
    node.say(task.lease, 0, &["1"]).await;
    let later = format!(
        "SELECT lease_until > '{before}'::timestamptz AND lease_until BETWEEN clock_timestamp() + interval '5 s'
             AND clock_timestamp() + interval '15 s' FROM agentpool.lanes WHERE session_id = '{session}'"
    );
    assert!(queue.one::<bool>(&later).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn overlapping_batches_in_opposite_order_never_deadlock() {
    let queue = Queue::new().await;
    let (one, two) = (queue.node().await, queue.node().await);
    let mut leases = Vec::new();
    for _ in 0..12 {
        leases.push(running(&queue, &one).await.lease);
    }
    let turned: Vec<_> = leases.iter().rev().copied().collect();
    let append = async |node: &Node, leases: &[agentpool::domain::task::Lease]| {
        for round in 1..=100 {
            // Both write the same numbers, as after a lost answer: whoever comes second finds them there.
            let call: Vec<_> = leases.iter().map(|lease| batch(*lease, round, &["x"])).collect();
            let outcomes = node.source.append(&call).await.unwrap();
            let ahead = |outcome: &AppendOutcome| match outcome {
                AppendOutcome::Done => true,
                AppendOutcome::Gap { expected } => *expected > round,
                AppendOutcome::LostLease => false,
            };
            assert!(outcomes.iter().all(ahead), "{outcomes:?} in round {round}");
            node.source.renew(leases).await.unwrap();
        }
    };
    tokio::join!(append(&one, &leases), append(&two, &turned));
    for lease in &leases {
        assert_eq!(stream(&queue, lease.session.0).await.len(), 100);
    }
    drop((one, two));
    queue.assert_no_deadlocks().await;
}

/// A reader that remembers its position must never find a smaller or a missing one later.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn positions_appear_without_gaps_in_the_order_of_their_commits() {
    let queue = Arc::new(Queue::new().await);
    let mut sessions = Vec::new();
    for _ in 0..3 {
        let session = queue.session().await;
        queue.put_all(session, &["1", "2", "3", "4", "5", "6"]).await;
        sessions.push(session);
    }
    let stop = Arc::new(AtomicBool::new(false));
    let mut readers = tokio::task::JoinSet::new();
    for session in sessions.clone() {
        let (queue, stop) = (queue.clone(), stop.clone());
        readers.spawn(async move {
            let mut cursor = 0;
            loop {
                let last_round = stop.load(Ordering::Acquire);
                for row in queue.store.session_events(session, cursor, 7).await.unwrap() {
                    assert_eq!(row.pos, cursor + 1, "a position was missing when a later one was there");
                    cursor = row.pos;
                }
                if last_round && queue.store.stream_end(session).await.unwrap() == cursor {
                    return cursor;
                }
            }
        });
    }
    let mut writers = tokio::task::JoinSet::new();
    for _ in 0..3 {
        let node = queue.node().await;
        writers.spawn(async move {
            loop {
                let claimed = node.take(2).await;
                for round in 0..10 {
                    let call: Vec<_> =
                        claimed.iter().map(|task| batch(task.lease, round * 2 + 1, &["a", "b"])).collect();
                    node.source.append(&call).await.unwrap();
                }
                let ends: Vec<_> = claimed.iter().map(completed).collect();
                let tick = node.tick(&ends, 0, &["a"]).await;
                if claimed.is_empty() && !tick.more {
                    return;
                }
            }
        });
    }
    while let Some(writer) = writers.join_next().await {
        writer.unwrap();
    }
    // A claimer may see nothing more while another still runs; what is left is drained by one.
    let node = queue.node().await;
    queue
        .sql
        .batch_execute("UPDATE agentpool.lanes SET home_node = '00000000-0000-0000-0000-000000000000'")
        .await
        .unwrap();
    while let Some(task) = node.take(1).await.first() {
        let texts = ["x"; 20];
        node.say(task.lease, 0, &texts).await;
        node.complete(task).await;
    }
    stop.store(true, Ordering::Release);
    let mut ends = Vec::new();
    while let Some(reader) = readers.join_next().await {
        ends.push(reader.unwrap());
    }
    assert_eq!(ends, [120; 3]);
}

// ---- what agents say is clean ----------------------------------------------------------------------------------------

const BAD: &str = "a\0b";
const CLEAN: &str = "a\u{FFFD}b";

fn dirty_events() -> Vec<LoggedEvent> {
    let call = ToolCall {
        call_id: BAD.into(),
        tool: BAD.into(),
        status: ToolStatus::Completed,
        title: Some(BAD.into()),
        input: Some(json!({BAD: [BAD, {"k": BAD}]})),
        output: Some(clean_bytes(b"\xff\0\xed\xa0\x80")),
    };
    let request = PermissionRequest {
        agent_request_id: BAD.into(),
        kind: PermissionKind::Tool,
        title: BAD.into(),
        payload: json!({BAD: BAD}),
    };
    [
        TurnEvent::Text(BAD.into()),
        TurnEvent::Reasoning(BAD.into()),
        TurnEvent::ToolCall(call.clone()),
        TurnEvent::ToolUpdate(call),
        TurnEvent::Plan(vec![PlanEntry { content: BAD.into(), status: BAD.into() }]),
        TurnEvent::Commands(vec![BAD.into()]),
        TurnEvent::ModeChanged(BAD.into()),
        TurnEvent::Usage(Usage { cost_usd: f64::NAN, ..Usage::default() }),
        TurnEvent::Permission(request),
        TurnEvent::Retry { attempt: 1, message: BAD.into() },
        TurnEvent::Notice(BAD.into()),
    ]
    .map(LoggedEvent::Agent)
    .into()
}

#[tokio::test]
async fn no_text_of_an_agent_can_break_a_row() {
    let queue = Queue::new().await;
    let node = queue.node().await;
    let task = running(&queue, &node).await;
    let events = dirty_events();
    let kinds = events.len();
    let outcomes =
        node.source.append(&[EventBatch { lease: task.lease, first_seq: 1, events }]).await.unwrap();
    assert_eq!(outcomes, [AppendOutcome::Done]);
    let rows = stream(&queue, task.lease.session.0).await;
    assert_eq!(rows.len(), kinds);
    assert_eq!(rows[0].content.as_deref(), Some(CLEAN));
    let call = &rows[2];
    assert_eq!((call.tool.as_deref(), call.content.as_deref()), (Some(CLEAN), Some(CLEAN)));
    assert_eq!(call.input.as_ref().unwrap()["input"], json!({CLEAN: [CLEAN, {"k": CLEAN}]}));
    assert!(call.output.as_ref().unwrap().chars().all(|letter| letter == '\u{FFFD}'));
}

#[tokio::test]
async fn no_report_of_a_turn_can_be_refused_for_its_letters() {
    let queue = Queue::new().await;
    let node = queue.node().await;
    let task = running(&queue, &node).await;
    let begin = TurnBegin {
        lease: task.lease,
        checkpoint: "c0de".into(),
        agent: task.agent.clone(),
        backend: BackendKind::Scripted,
        agent_session_id: BAD.into(),
        server_port: Some(65_535),
        config_hash: "h".into(),
    };
    node.source.begin_turn(&begin).await.unwrap();
    let request = PermissionRequest {
        agent_request_id: BAD.into(),
        kind: PermissionKind::Question,
        title: BAD.into(),
        payload: json!({BAD: BAD}),
    };
    let ask = PermissionAsk { request, answered: None, deadline: Some(Duration::from_secs(1)) };
    node.source.ask_permission(&task.lease, &agent("a"), &ask).await.unwrap();
    let no = PermissionDecision::Deny { message: Some(BAD.into()) };
    assert!(node.source.expire_permission(&task.lease, BAD, &no).await.unwrap(), "the id finds its question");
    // Cleaning makes this diff too large for its column; a change without its diff is better than no result.
    let change = FileChange {
        path: BAD.into(),
        path_raw: Some(b"a\xff".to_vec()),
        old_path: Some(BAD.into()),
        operation: ChangeOperation::Rename,
        old_mode: Some("100644".into()),
        new_mode: Some("100644".into()),
        binary: false,
        old_blob: None,
        new_blob: None,
        diff: Some("\0".repeat(DIFF_BYTES_MAX)),
        additions: 1,
        deletions: 1,
    };
    let result = TurnResult {
        lease: task.lease,
        agent: task.agent.clone(),
        output: Some(BAD.into()),
        checkpoint: Some("c0de".into()),
        changes: vec![change],
        usage: Some((BAD.into(), Usage { input_tokens: 1, ..Usage::default() })),
    };
    node.source.store_result(&result).await.unwrap();
    let row = queue.store.task(task.lease.task.0).await.unwrap().unwrap();
    assert_eq!((row.status.as_str(), row.output.as_deref()), ("running", Some(CLEAN)));
    let (path, diff): (String, bool) = (
        queue.one("SELECT file_path FROM agentpool.pending_changes").await,
        queue.one("SELECT diff IS NULL FROM agentpool.pending_changes").await,
    );
    assert_eq!((path.as_str(), diff), (CLEAN, true));
}

// ---- the writer ------------------------------------------------------------------------------------------------------

#[tokio::test]
async fn the_writer_joins_pieces_and_keeps_every_letter_in_order() {
    let queue = Queue::new().await;
    let node = queue.node().await;
    let task = running(&queue, &node).await;
    let (committed, mut news) = broadcast::channel(64);
    let (writer, run) = EventWriter::new(node.source.clone(), committed);
    let log = writer.open(task.lease, task.last_seq).await;
    let mut expected = String::new();
    for number in 0..300 {
        let piece = format!("{number} ");
        expected.push_str(&piece);
        log.write(text(&piece)).await;
        if number == 150 {
            log.write(LoggedEvent::Agent(TurnEvent::Notice("between".into()))).await;
        }
    }
    let run = tokio::spawn(run);
    log.flush().await.unwrap();
    let rows = stream(&queue, task.lease.session.0).await;
    let kinds: Vec<_> = rows.iter().map(|row| row.kind.as_str()).collect();
    assert_eq!(kinds, ["text", "notice", "text"], "what waited together is stored together");
    let told: String =
        rows.iter().filter(|row| row.kind == "text").filter_map(|row| row.content.clone()).collect();
    assert_eq!(told, expected);
    assert_eq!(news.recv().await.unwrap(), task.lease.session);
    log.close().await.unwrap();
    drop(writer);
    run.await.unwrap();
}

#[tokio::test]
async fn joining_pieces_never_makes_a_text_so_long_that_it_is_cut() {
    let queue = Queue::new().await;
    let node = queue.node().await;
    let task = running(&queue, &node).await;
    let (writer, run) = EventWriter::new(node.source.clone(), broadcast::channel(64).0);
    let log = writer.open(task.lease, 0).await;
    // Of 1.5 MiB each three stay below the limit of a batch and together pass the limit of an event.
    let mut expected = 0;
    for letter in ["x", "\0", "y"] {
        log.write(text(&letter.repeat(1 << 20))).await;
        log.write(text(&letter.repeat(1 << 19))).await;
        expected += 3 << 19;
    }
    let run = tokio::spawn(run);
    log.close().await.unwrap();
    drop(writer);
    run.await.unwrap();
    let rows = stream(&queue, task.lease.session.0).await;
    let told: String = rows.iter().filter_map(|row| row.content.clone()).collect();
    assert!(!told.contains("bytes cut"));
    assert_eq!(told.chars().count(), expected);
}

#[tokio::test]
async fn one_bad_turn_does_not_sink_a_batch() {
    let queue = Queue::new().await;
    let node = queue.node().await;
    let (good, bad, fine) =
        (running(&queue, &node).await, running(&queue, &node).await, running(&queue, &node).await);
    let (writer, run) = EventWriter::new(node.source.clone(), broadcast::channel(64).0);
    // Its lane is held, but no partition takes rows of such an id: the whole statement fails.
    let mut nowhere = bad.lease;
    nowhere.task = TaskId(Uuid::from_u128(7 << 76));
    let mut logs = Vec::new();
    for lease in [good.lease, nowhere, fine.lease] {
        let log = writer.open(lease, 0).await;
        log.write(text("hi")).await;
        logs.push(log);
    }
    let run = tokio::spawn(run);
    let mut outcomes = Vec::new();
    for log in &logs {
        outcomes.push(log.flush().await);
    }
    assert_eq!(outcomes, [Ok(()), Err(WriteEnded::Refused), Ok(())]);
    logs[0].write(text(" there")).await;
    logs[0].flush().await.unwrap();
    assert_eq!(logs[1].flush().await, Err(WriteEnded::Refused), "it stays ended");
    assert_eq!(contents(&stream(&queue, good.lease.session.0).await), ["hi", " there"]);
    assert_eq!(contents(&stream(&queue, fine.lease.session.0).await), ["hi"]);
    drop((logs, writer));
    run.await.unwrap();
}

#[tokio::test]
async fn a_zombies_log_does_not_write_into_that_of_the_next_attempt() {
    let queue = Queue::new().await;
    let node = queue.node().await;
    let zombie = running(&queue, &node).await;
    let (writer, run) = EventWriter::new(node.source.clone(), broadcast::channel(64).0);
    let run = tokio::spawn(run);
    let old = writer.open(zombie.lease, 0).await;
    old.write(text("first attempt")).await;
    old.flush().await.unwrap();
    node.finish(&[requeued(&zombie, Duration::ZERO, FailureReason::NodeLost, false)]).await;
    let owner = node.take_one().await;
    let new = writer.open(owner.lease, owner.last_seq).await;
    new.write(text("second ")).await;
    old.write(text("zombie ")).await;
    new.write(text("attempt")).await;
    assert_eq!(old.flush().await, Err(WriteEnded::LostLease));
    new.flush().await.unwrap();
    old.close().await.unwrap_err();
    new.write(text("!")).await;
    new.close().await.unwrap();
    let told = contents(&stream(&queue, owner.lease.session.0).await).concat();
    assert_eq!(told, "first attemptsecond attempt!");
    drop(writer);
    run.await.unwrap();
}

#[tokio::test]
async fn the_writer_waits_out_an_outage() {
    let queue = Queue::new().await;
    let node = queue.node().await;
    let task = running(&queue, &node).await;
    let (writer, run) = EventWriter::new(node.source.clone(), broadcast::channel(64).0);
    let run = tokio::spawn(run);
    let log = writer.open(task.lease, 0).await;
    log.write(text("before ")).await;
    log.flush().await.unwrap();
    let terminate = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
                     WHERE datname = current_database() AND pid <> pg_backend_pid()";
    for _ in 0..5 {
        queue.one::<i64>(terminate).await;
        log.write(text("during ")).await;
    }
    tokio::time::timeout(DEADLINE, log.close()).await.unwrap().unwrap();
    let told = contents(&stream(&queue, task.lease.session.0).await).concat();
    assert_eq!(told, "before during during during during during ");
    drop(writer);
    run.await.unwrap();
}
