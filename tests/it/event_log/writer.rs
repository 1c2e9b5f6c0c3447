//! The writer: joins, waits, and ends one turn without the others.

use super::{contents, running, stream};
use crate::support::queue::{DEADLINE, Queue, requeued, text};
use agentpool::dispatch::event_writer::{EventWriter, WriteEnded};
use agentpool::dispatch::task_source::LoggedEvent;
use agentpool::domain::failure::FailureReason;
use agentpool::domain::ids::TaskId;
use agentpool::domain::redaction::Redactor;
use agentpool::domain::turn::TurnEvent;
use agentpool::store::events::EventRow;
use std::time::Duration;
use uuid::Uuid;

#[tokio::test]
async fn the_writer_joins_pieces_and_keeps_every_letter_in_order() {
    let queue = Queue::new().await;
    let node = queue.node().await;
    let task = running(&queue, &node).await;
    let mut appended = node.store.appended();
    let (writer, run) = EventWriter::new(node.source.clone());
    let mut log = writer.open(task.lease, task.last_seq, &Redactor::default()).await;
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
    let mut heard = Vec::new();
    while heard.len() < rows.len() {
        heard.extend(appended.recv().await.unwrap().iter().cloned());
    }
    let seen = |rows: &[EventRow]| rows.iter().map(|row| format!("{row:?}")).collect::<Vec<_>>();
    assert_eq!(seen(&heard), seen(&rows), "readers of this process are told what they would read");
    log.close().await.unwrap();
    drop(writer);
    run.await.unwrap();
}

#[tokio::test]
async fn joining_pieces_never_makes_a_text_so_long_that_it_is_cut() {
    let queue = Queue::new().await;
    let node = queue.node().await;
    let task = running(&queue, &node).await;
    let (writer, run) = EventWriter::new(node.source.clone());
    let mut log = writer.open(task.lease, 0, &Redactor::default()).await;
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
    let (writer, run) = EventWriter::new(node.source.clone());
    // Its lane is held, but no partition takes rows of such an id: the whole statement fails.
    let mut nowhere = bad.lease;
    nowhere.task = TaskId(Uuid::from_u128(7 << 76));
    let mut logs = Vec::new();
    for lease in [good.lease, nowhere, fine.lease] {
        let mut log = writer.open(lease, 0, &Redactor::default()).await;
        log.write(text("hi")).await;
        logs.push(log);
    }
    let run = tokio::spawn(run);
    let mut outcomes = Vec::new();
    for log in &mut logs {
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
    let (writer, run) = EventWriter::new(node.source.clone());
    let run = tokio::spawn(run);
    let mut old = writer.open(zombie.lease, 0, &Redactor::default()).await;
    old.write(text("first attempt")).await;
    old.flush().await.unwrap();
    node.finish(&[requeued(&zombie, Duration::ZERO, FailureReason::NodeLost, false)]).await;
    let owner = node.take_one().await;
    let mut new = writer.open(owner.lease, owner.last_seq, &Redactor::default()).await;
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
    let (writer, run) = EventWriter::new(node.source.clone());
    let run = tokio::spawn(run);
    let mut log = writer.open(task.lease, 0, &Redactor::default()).await;
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
