//! Questions and their answers: none is lost, none is told twice, and a wait for a person costs a turn nothing.

use crate::support::node::{TestNode, scripted_agent, scripted_config};
use crate::support::queue::{Node, Queue, agent, plain};
use agentpool::dispatch::task_source::{PermissionAsk, SourceError, Standing, TaskSource};
use agentpool::domain::agent::AgentName;
use agentpool::domain::permission::{Access, PermissionDecision, PermissionKind, PermissionRequest};
use agentpool::domain::task::{ClaimedTask, TaskStatus};
use agentpool::wire::api::{NewTask, PermissionView, TaskView};
use agentpool::wire::permission::{AnswerBody, to_json};
use reqwest::StatusCode;
use serde_json::{Value, json};
use std::time::Duration;

/// A node whose scripted agent asks people, who have so many seconds, in turns of so many seconds.
async fn asking(deadline_secs: u32, turn_secs: u64) -> TestNode {
    let folder = tempfile::tempdir().unwrap();
    let mut config = scripted_config(&folder).await;
    let mut asking = scripted_agent("scripted");
    asking.permission =
        serde_json::from_value(json!({"policy": "ask", "deadline_secs": deadline_secs})).unwrap();
    asking.turn_secs = turn_secs;
    config.agents.insert(AgentName::new("scripted").unwrap(), asking);
    TestNode::start(config, vec![folder]).await
}

async fn submit_once(node: &TestNode, prompt: &str) -> TaskView {
    let task = NewTask {
        session_id: node.session().await.id,
        agent: "scripted".into(),
        prompt: prompt.into(),
        max_failures: Some(1),
        ..NewTask::default()
    };
    node.post("/api/tasks", &task, StatusCode::CREATED).await
}

async fn answer(node: &TestNode, request: &PermissionView, body: &AnswerBody) -> Value {
    node.post(&format!("/api/permissions/{}/answer", request.id), body, StatusCode::OK).await
}

/// The database answers as if it were away when a row of a question is written and this holds.
async fn break_writes(node: &TestNode, when: &str, condition: &str) {
    let trigger = format!(
        "CREATE FUNCTION away() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN RAISE EXCEPTION 'away' USING ERRCODE = '57P03'; END $$;
         CREATE SEQUENCE tries;
         CREATE TRIGGER away BEFORE {when} ON agentpool.permission_requests FOR EACH ROW
             WHEN ({condition} AND nextval('tries') > 0) EXECUTE FUNCTION away()"
    );
    node.sql().await.batch_execute(&trigger).await.unwrap();
}

/// It has been asked in vain, and has then been asked again.
const TRIED_AGAIN: &str = "SELECT last_value > 1 FROM tries";

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_never_came_is_found_by_the_deadline() {
    let node = asking(2, 3600).await;
    let task = submit_once(&node, "ASK: may I").await;
    let request = node.one_pending_permission().await;
    // As it stands when the reply of the delivery was lost and nobody has looked for half a minute.
    let lost = "UPDATE agentpool.permission_requests SET status = 'answered', answer = '{\"decision\": \"allow_once\"}',
                delivered_at = clock_timestamp() - interval '1 hour' WHERE id = $1";
    node.sql().await.execute(lost, &[&request.id]).await.unwrap();
    let (task, _) = node.finish(task.id).await;
    assert!(task.output.as_deref().unwrap_or("").contains("allowed"), "{task:?}");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_whose_delivery_was_lost_is_delivered_again() {
    let node = asking(3600, 3600).await;
    let task = submit_once(&node, "ASK: may I").await;
    let request = node.one_pending_permission().await;
    let lost = "UPDATE agentpool.permission_requests SET status = 'answered', answer = '{\"decision\": \"allow_once\"}',
                delivered_at = clock_timestamp() WHERE id = $1";
    node.sql().await.execute(lost, &[&request.id]).await.unwrap();
    let (task, _) = node.finish(task.id).await;
    assert!(task.output.as_deref().unwrap_or("").contains("allowed"), "{task:?}");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_comes_twice_answers_one_question() {
    let node = asking(3600, 3600).await;
    let task = submit_once(&node, "ASK: first\nASK: second\nSAY: end").await;
    let first = node.one_pending_permission().await;
    answer(&node, &first, &AnswerBody::AllowOnce).await;
    node.until("SELECT count(*) = 2 FROM agentpool.permission_requests").await;
    let second = node.one_pending_permission().await;
    // Its wake hands out the first answer again as well.
    answer(&node, &second, &AnswerBody::Deny { message: None }).await;
    let (task, events) = node.finish(task.id).await;
    let resolved = |event: &agentpool::wire::event::EventView| {
        let input = event
            .input
            .as_ref()
            .filter(|input| event.kind == "permission" && input["status"] == "answered")?;
        Some(input["answer"]["decision"].as_str()?.to_owned())
    };
    let resolved: Vec<String> = events.iter().filter_map(resolved).collect();
    assert_eq!(
        resolved,
        ["allow_once", "deny"],
        "whoever follows hears that nobody needs to answer any more"
    );
    let output = task.output.unwrap_or_default();
    assert!(output.contains("allowed: first") && output.contains("denied: second"), "{output}");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_answers_and_the_default_holds_for_agent_and_row_alike() {
    let node = asking(1, 3600).await;
    let task = submit_once(&node, "ASK: may I").await;
    let (task, events) = node.finish(task.id).await;
    assert!(task.output.as_deref().unwrap_or("").contains("denied"), "{task:?}");
    assert!(events.iter().any(|event| event.kind == "notice"), "the reader learns why: {events:?}");
    let rows: Vec<PermissionView> = node.get("/api/permissions?all=true").await;
    assert_eq!((rows[0].status.as_str(), rows[0].answered_by.as_deref()), ("expired", Some("deadline")));
    let expired = |event: &&agentpool::wire::event::EventView| {
        event.kind == "permission" && event.input.as_ref().is_some_and(|input| input["status"] == "expired")
    };
    assert_eq!(events.iter().filter(expired).count(), 1);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_an_expiry_cannot_be_stored_no_default_is_told_and_a_person_still_decides() {
    let node = asking(1, 3600).await;
    break_writes(&node, "UPDATE", "NEW.status = 'expired'").await;
    let task = submit_once(&node, "ASK: may I").await;
    let request = node.one_pending_permission().await;
    node.until(TRIED_AGAIN).await;
    answer(&node, &request, &AnswerBody::AllowOnce).await;
    let (task, _) = node.finish(task.id).await;
    assert!(task.output.as_deref().unwrap_or("").contains("allowed"), "what the person was told: {task:?}");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_waits_for_the_database_and_a_cancel_ends_the_wait() {
    let node = asking(3600, 3600).await;
    break_writes(&node, "INSERT", "true").await;
    let task = submit_once(&node, "ASK: may I").await;
    node.until(TRIED_AGAIN).await;
    let _: TaskView = node.post(&format!("/api/tasks/{}/cancel", task.id), &(), StatusCode::ACCEPTED).await;
    let (cancelled, _) = node.finish(task.id).await;
    assert_eq!(cancelled.status, "cancelled");
    let task = submit_once(&node, "ASK: may I").await;
    node.sql().await.batch_execute("DROP TRIGGER away ON agentpool.permission_requests").await.unwrap();
    let request = node.one_pending_permission().await;
    answer(&node, &request, &AnswerBody::AllowOnce).await;
    assert_eq!(node.finish(task.id).await.0.status, "completed", "it is asked once the database is back");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_turn_does_not_outlast_its_limit_because_a_question_cannot_be_stored() {
    let node = asking(3600, 1).await;
    break_writes(&node, "INSERT", "true").await;
    let (task, _) = node.finish(submit_once(&node, "ASK: may I").await.id).await;
    assert_eq!(task.failure_reason.as_deref(), Some("timeout"), "{task:?}");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_that_no_row_can_hold_is_denied_and_the_turn_goes_on() {
    let node = asking(3600, 3600).await;
    let refuse = "ALTER TABLE agentpool.permission_requests ADD CHECK (title <> 'may I')";
    node.sql().await.batch_execute(refuse).await.unwrap();
    let (task, _) = node.finish(submit_once(&node, "ASK: may I\nSAY: went on").await.id).await;
    let output = task.output.unwrap_or_default();
    assert!(output.contains("denied") && output.contains("went on"), "{output}");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_wait_for_a_person_is_no_time_of_the_turn_but_what_follows_is() {
    let node = asking(3600, 2).await;
    let task = submit_once(&node, "ASK: may I\nSAY: went on\nHANG").await;
    let request = node.one_pending_permission().await;
    node.until("SELECT created_at < clock_timestamp() - interval '3 s' FROM agentpool.permission_requests")
        .await;
    answer(&node, &request, &AnswerBody::AllowOnce).await;
    let (task, _) = node.finish(task.id).await;
    let output = task.output.as_deref().unwrap_or("");
    assert!(output.contains("allowed") && output.contains("went on"), "{task:?}");
    assert_eq!(task.failure_reason.as_deref(), Some("timeout"), "the limit holds for the rest: {task:?}");
    node.stop().await;
}

/// A running turn with an open question `q`.
async fn asked(queue: &Queue, node: &Node) -> ClaimedTask {
    queue.put(&plain(queue.session().await, "x")).await;
    let task = node.take_one().await;
    ask(node, &task, "q", None).await.unwrap();
    task
}

async fn ask(
    node: &Node,
    task: &ClaimedTask,
    id: &str,
    answered: Option<PermissionDecision>,
) -> Result<(), SourceError> {
    let request = PermissionRequest {
        agent_request_id: id.into(),
        kind: PermissionKind::Tool,
        access: Access::Unknown,
        title: "bash: ls".into(),
        payload: json!({}),
    };
    let ask = PermissionAsk { request, answered, rule: None, deadline: Some(Duration::from_secs(60)) };
    node.source.ask_permission(&task.lease, &agent("a"), &ask).await
}

fn no() -> PermissionDecision {
    PermissionDecision::Deny { message: None }
}

const ALLOW: &str = "UPDATE agentpool.permission_requests
                     SET status = 'answered', answer = '{\"decision\": \"allow_once\"}' WHERE status = 'pending'";

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_that_meets_an_answer_half_way_takes_the_answer() {
    let queue = Queue::new().await;
    let node = queue.node().await;
    let task = asked(&queue, &node).await;
    let mut psql = queue.psql().await;
    let person = psql.transaction().await.unwrap();
    person.execute(ALLOW, &[]).await.unwrap();
    let (source, lease) = (node.source.clone(), task.lease);
    let expiry = tokio::spawn(async move { source.expire_permission(&lease, "q", &no()).await });
    queue.until_blocked("the default is given").await;
    person.commit().await.unwrap();
    let standing = expiry.await.unwrap().unwrap();
    assert_eq!(standing, Standing::Answered(PermissionDecision::AllowOnce));
    let again = node.source.expire_permission(&task.lease, "q", &no()).await.unwrap();
    assert_eq!(again, standing, "a lost reply is asked for again");
}

#[tokio::test]
async fn of_an_answer_and_a_deadline_the_first_holds_for_ever() {
    let queue = Queue::new().await;
    let node = queue.node().await;
    let task = asked(&queue, &node).await;
    for _ in 0..2 {
        let standing = node.source.expire_permission(&task.lease, "q", &no()).await.unwrap();
        assert_eq!(standing, Standing::Expired);
    }
    let id = queue.one("SELECT id FROM agentpool.permission_requests").await;
    let yes = to_json(PermissionDecision::AllowOnce);
    assert!(
        !queue.store.answer_permission(id, &yes, "late").await.unwrap(),
        "the agent was told the default"
    );
    assert!(node.source.take_answers(&[task.lease]).await.unwrap().is_empty(), "a default is no answer");
}

#[tokio::test]
async fn an_answer_is_handed_out_again_for_a_while_and_what_the_policy_said_never() {
    let queue = Queue::new().await;
    let node = queue.node().await;
    let task = asked(&queue, &node).await;
    ask(&node, &task, "policy", Some(no())).await.unwrap();
    queue.sql.batch_execute(ALLOW).await.unwrap();
    for _ in 0..2 {
        let answers = node.source.take_answers(&[task.lease]).await.unwrap();
        let ids: Vec<&str> = answers.iter().map(|(_, answer)| answer.agent_request_id.as_str()).collect();
        assert_eq!(ids, ["q"]);
    }
    let earlier = "UPDATE agentpool.permission_requests SET delivered_at = delivered_at - interval '31 s'";
    queue.sql.batch_execute(earlier).await.unwrap();
    assert!(node.source.take_answers(&[task.lease]).await.unwrap().is_empty());
}

#[tokio::test]
async fn an_id_of_any_length_gets_a_row_of_its_own() {
    let queue = Queue::new().await;
    let node = queue.node().await;
    let task = asked(&queue, &node).await;
    // What does not repeat cannot be compressed into an index entry.
    let long: String = (0..9_000_u32).map(|n| format!("{:x}", n.wrapping_mul(2_654_435_761))).collect();
    let ids = [long.clone(), format!("{long}!"), "a\0b".to_owned(), "a\u{FFFD}b".to_owned()];
    for id in &ids {
        ask(&node, &task, id, None).await.unwrap();
    }
    assert_eq!(queue.one::<i64>("SELECT count(*) FROM agentpool.permission_requests").await, 5);
    for id in &ids {
        node.source.expire_permission(&task.lease, id, &no()).await.unwrap();
    }
    let pending = "SELECT agent_request_id FROM agentpool.permission_requests WHERE status = 'pending'";
    assert_eq!(queue.one::<String>(pending).await, "q", "each id finds its own row");
}

#[tokio::test]
async fn an_answered_row_without_an_answer_is_refused() {
    let queue = Queue::new().await;
    let node = queue.node().await;
    asked(&queue, &node).await;
    let by_hand = "UPDATE agentpool.permission_requests SET status = 'answered'";
    assert!(
        queue.sql.batch_execute(by_hand).await.is_err(),
        "a person who forgets the answer is told at once"
    );
}

#[tokio::test]
async fn a_question_that_was_closed_with_its_lease_does_not_expire() {
    let queue = Queue::new().await;
    let node = queue.node().await;
    let task = asked(&queue, &node).await;
    let finished = crate::support::queue::ended(&task, TaskStatus::Cancelled);
    node.finish(&[finished]).await;
    let standing = node.source.expire_permission(&task.lease, "q", &no()).await;
    assert!(matches!(standing, Err(SourceError::LostLease)), "{standing:?}");
}
