//! Tool outputs that are longer than a row shows: a preview in the row, the whole once beside it, under the same fence, and gone
//! with it.

use super::{running, stream};
use crate::secrets::dump;
use crate::support::queue::{Queue, requeued, text};
use agentpool::dispatch::event_writer::EventWriter;
use agentpool::dispatch::task_source::{AppendOutcome, EventBatch, LoggedEvent, TaskSource};
use agentpool::domain::failure::FailureReason;
use agentpool::domain::redaction::Redactor;
use agentpool::domain::tool_output::{LongOutput, OUTPUT_BYTES_MAX, PREVIEW_BYTES_MAX, pack, unpack};
use agentpool::domain::turn::{ToolCall, ToolStatus, TurnEvent};
use agentpool::store::events::EventRow;
use std::time::Duration;

const SECRET: &str = "canary-of-a-long-output";

fn call(id: &str, status: ToolStatus, output: &str) -> LoggedEvent {
    LoggedEvent::Agent(TurnEvent::ToolUpdate(ToolCall {
        call_id: id.into(),
        tool: "bash".into(),
        status,
        title: None,
        input: None,
        output: Some(output.into()),
        locations: Vec::new(),
        diffs: Vec::new(),
    }))
}

/// What the log makes of these events.
async fn logged(queue: &Queue, events: Vec<LoggedEvent>) -> Vec<EventRow> {
    let node = queue.node().await;
    let task = running(queue, &node).await;
    let mut appended = node.store.appended();
    let (writer, run) = EventWriter::new(node.source.clone());
    let run = tokio::spawn(run);
    let mut log = writer.open(task.lease, 0, &Redactor::new([SECRET.to_owned()])).await;
    for event in events {
        log.write(event).await;
    }
    log.close().await.unwrap();
    drop(writer);
    run.await.unwrap();
    let rows = stream(queue, task.lease.session.0).await;
    let mut heard = Vec::new();
    while heard.len() < rows.len() {
        heard.extend(appended.recv().await.unwrap().iter().cloned());
    }
    let told = |rows: &[EventRow]| -> Vec<_> {
        rows.iter().map(|row| (row.pos, row.output.clone(), row.output_bytes)).collect()
    };
    assert!(told(&heard) == told(&rows), "readers of this process are told what they would read");
    rows
}

async fn whole(queue: &Queue, row: &EventRow) -> Option<String> {
    let output = queue.store.tool_output(row.task, row.seq).await.unwrap().expect("the event is there");
    output.whole.map(|packed| unpack(&packed).unwrap())
}

async fn kept(queue: &Queue) -> i64 {
    queue.one("SELECT count(*) FROM agentpool.tool_outputs").await
}

#[tokio::test(flavor = "multi_thread")]
async fn five_megabytes_come_back_whole_and_the_row_shows_both_ends() {
    let queue = Queue::new().await;
    // Characters of every length at each of the cuts, whichever byte they fall on.
    for lead in ["", "a", "ab", "abc"] {
        let said = format!("{lead}{}{SECRET}\0{}", "é€😀".repeat(300_000), "😀é€".repeat(300_000));
        let wanted = said.replace(SECRET, "[redacted]").replace('\0', "\u{FFFD}");
        let rows = logged(&queue, vec![text("it runs"), call("c", ToolStatus::Completed, &said)]).await;
        let row = &rows[1];
        assert_eq!(row.output_bytes, Some(wanted.len() as i64));
        let shown = row.output.as_deref().unwrap();
        let (beginning, end) = shown.split_once("\n… [").unwrap();
        let end = end.split_once(" bytes left out] …\n").unwrap().1;
        assert!(shown.len() < PREVIEW_BYTES_MAX + 100 && beginning.len() > 32_000 && end.len() > 32_000);
        assert!(wanted.starts_with(beginning) && wanted.ends_with(end));
        assert!(whole(&queue, row).await.as_deref() == Some(&wanted[..]));
        assert_eq!(whole(&queue, &rows[0]).await, None);
    }
    let (bytes, stored): (i64, i64) = (
        queue.one("SELECT min(bytes) FROM agentpool.tool_outputs").await,
        queue.one("SELECT max(octet_length(body))::int8 FROM agentpool.tool_outputs").await,
    );
    assert!(stored * 100 < bytes, "{stored} bytes for {bytes}");
    assert!(!dump(&queue.sql).await.contains(SECRET));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_output_that_grows_and_is_told_again_is_kept_once_with_the_end_of_its_call() {
    let queue = Queue::new().await;
    let (short, long) = ("x".repeat(PREVIEW_BYTES_MAX), "a line of output\n".repeat(20_000));
    let grows = (1..=5).map(|n| call("c", ToolStatus::Running, &long[..long.len() * n / 5]));
    let ends = [
        call("c", ToolStatus::Completed, &long),
        call("c", ToolStatus::Completed, &long),
        call("other", ToolStatus::Failed, &long),
        call("short", ToolStatus::Completed, &short),
    ];
    let rows = logged(&queue, grows.chain(ends).collect()).await;
    assert_eq!(rows.len(), 9);
    let lengths: Vec<Option<i64>> = rows.iter().map(|row| row.output_bytes).collect();
    let length = |n: usize| Some((long.len() * n / 5) as i64);
    assert_eq!(lengths, [1, 2, 3, 4, 5, 5, 5, 5, 0].map(|n| length(n).filter(|_| n > 0)));
    assert!(rows[8].output.as_deref() == Some(&short[..]), "what a row can hold it holds");
    assert_eq!(kept(&queue).await, 2);
    assert!(whole(&queue, &rows[5]).await.as_deref() == Some(&long[..]));
    assert!(whole(&queue, &rows[7]).await.as_deref() == Some(&long[..]));
    for row in [&rows[0], &rows[4], &rows[6]] {
        assert_eq!(whole(&queue, row).await, None);
        assert!(row.output.as_ref().is_some_and(|output| output.len() < PREVIEW_BYTES_MAX + 100));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn beyond_the_limit_it_is_cut_and_says_so() {
    let queue = Queue::new().await;
    let said = "0123456789abcdef".repeat(OUTPUT_BYTES_MAX / 16 + 1);
    let rows = logged(&queue, vec![call("c", ToolStatus::Completed, &said), text("and goes on")]).await;
    assert_eq!(rows[0].output_bytes, Some(said.len() as i64));
    let whole = whole(&queue, &rows[0]).await.unwrap();
    assert!(whole.ends_with("f… [16 bytes cut]") && whole.len() < OUTPUT_BYTES_MAX + 100);
    assert_eq!(rows[1].content.as_deref(), Some("and goes on"));
}

#[tokio::test]
async fn a_zombies_output_is_refused_with_its_event_and_one_whose_answer_was_lost_is_stored_once() {
    let queue = Queue::new().await;
    let node = queue.node().await;
    let zombie = running(&queue, &node).await;
    node.finish(&[requeued(&zombie, Duration::ZERO, FailureReason::NodeLost, false)]).await;
    let owner = node.take_one().await;
    let batch = |lease| {
        let said = TurnEvent::Notice("x".into());
        let output = LongOutput { bytes: 3, packed: Some(pack("abc".into())) };
        EventBatch { lease, first_seq: 1, events: vec![LoggedEvent::LongOutput { said, output }] }
    };
    let both = [batch(zombie.lease), batch(owner.lease)];
    assert_eq!(node.source.append(&both).await.unwrap(), [AppendOutcome::LostLease, AppendOutcome::Done]);
    assert_eq!(node.source.append(&both).await.unwrap(), [AppendOutcome::LostLease, AppendOutcome::Done]);
    assert_eq!(kept(&queue).await, 1);
}

#[tokio::test]
async fn what_is_kept_goes_with_the_events_of_its_week_and_not_before() {
    let queue = Queue::new().await;
    let make = "SELECT agentpool.make_partitions(clock_timestamp() - interval '80 days')";
    queue.sql.batch_execute(make).await.unwrap();
    // More than one statement takes out.
    for days in [70, 20] {
        let put = format!(
            "INSERT INTO agentpool.tool_outputs (task_id, seq, bytes, body)
             SELECT agentpool.uuid_floor(clock_timestamp() - interval '{days} days'), seq, 1, '\\x00' FROM generate_series(1, 450) AS seq"
        );
        queue.sql.batch_execute(&put).await.unwrap();
    }
    assert_eq!(kept(&queue).await, 900);
    queue.store.drop_old_events(30).await.unwrap();
    assert_eq!(kept(&queue).await, 450);
    queue.store.drop_old_events(30).await.unwrap();
    assert_eq!(kept(&queue).await, 450);
}
