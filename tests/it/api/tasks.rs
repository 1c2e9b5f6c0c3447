//! Why a task waits, how its attempts went, batches, retries, pages.

use crate::support::node::{TestNode, scripted_agent, scripted_config};
use agentpool::domain::agent::AgentName;
use agentpool::wire::api::{
    BatchView, CloseSession, ClosedView, NewTask, NewTasks, Problem, SessionView, TaskView, WorkspaceView,
};
use chrono::{Duration, Utc};
use reqwest::{Method, StatusCode};
use uuid::Uuid;

async fn task(node: &TestNode, id: Uuid) -> TaskView {
    node.get(&format!("/api/tasks/{id}")).await
}

/// Why a task waits, once it waits for that: an admission is a matter of moments.
async fn waits(node: &TestNode, id: Uuid, reason: &str) -> TaskView {
    let until = tokio::time::Instant::now() + crate::support::node::PATIENCE;
    loop {
        let task = task(node, id).await;
        if task.waits.as_ref().is_some_and(|waits| waits.reason == reason) {
            return task;
        }
        assert!(tokio::time::Instant::now() < until, "never {reason}: {task:?}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queued_task_says_what_it_waits_for() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = scripted_config(&folder).await;
    config.hands = 1;
    config.agents.insert(AgentName::new("limited").unwrap(), scripted_agent("scripted"));
    let node = TestNode::start(config, vec![folder]).await;
    let (one, other, third) = (node.session().await.id, node.session().await.id, node.session().await.id);

    let later = Utc::now() + Duration::hours(1);
    let scheduled = NewTask {
        session_id: one,
        agent: "scripted".into(),
        prompt: "SAY: x".into(),
        run_at: Some(later),
        ..NewTask::default()
    };
    let scheduled: TaskView = node.post("/api/tasks", &scheduled, StatusCode::CREATED).await;
    let told = waits(&node, scheduled.id, "scheduled").await.waits.unwrap();
    assert!((told.until.unwrap() - later).num_milliseconds().abs() < 1000);

    let failing = node.submit_with(third, "scripted", "FAIL:provider_errorx99", 100).await;
    node.until(&format!("SELECT failures > 0 FROM agentpool.tasks WHERE id = '{}'", failing.id)).await;
    let told = waits(&node, failing.id, "backing_off").await;
    assert!(told.waits.unwrap().until.is_some() && told.error.is_some());
    node.cancel(failing.id).await;
    node.finish(failing.id).await;

    let limited = node.submit(third, "limited", "FAIL:rate_limitedx1@3600").await;
    let told = waits(&node, limited.id, "rate_limited").await.waits.unwrap();
    assert!(told.until.is_some_and(|until| until > Utc::now() + Duration::minutes(30)), "{told:?}");

    let running = node.submit(one, "scripted", "HANG").await;
    node.until(&format!("SELECT status = 'running' FROM agentpool.tasks WHERE id = '{}'", running.id)).await;
    assert_eq!(task(&node, running.id).await.waits, None, "it runs");
    let behind = node.submit(one, "scripted", "SAY: behind").await;
    let told = waits(&node, behind.id, "lane_busy").await.waits.unwrap();
    assert!(told.detail.contains(&running.id.to_string()), "{told:?}");
    let next = node.submit(other, "scripted", "SAY: next").await;
    waits(&node, next.id, "no_free_hand").await;

    let sql = node.sql().await;
    sql.execute("INSERT INTO agentpool.agents (name, backend) VALUES ('far', 'scripted')", &[])
        .await
        .unwrap();
    let far = node.submit(node.session().await.id, "far", "SAY: far").await;
    let told = waits(&node, far.id, "agent_elsewhere").await.waits.unwrap();
    assert!(told.detail.contains("far"), "{told:?}");
    node.cancel(running.id).await;
    assert_eq!(node.finish(next.id).await.0.status, "completed");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_tells_of_every_attempt_and_is_put_in_again_only_when_it_failed() {
    let node = TestNode::scripted().await;
    let session = node.session().await.id;
    let failed = node.submit_with(session, "scripted", "FAIL:provider_errorx2\nSAY: better", 2).await;
    let (failed, _) = node.finish(failed.id).await;
    let told: Vec<_> = failed
        .attempts
        .iter()
        .map(|a| (a.number, a.outcome.as_deref().unwrap(), a.reason.as_deref().unwrap()))
        .collect();
    assert_eq!(
        told,
        [(Some(1), "queued", "provider_error"), (Some(2), "failed", "provider_error")],
        "{failed:?}"
    );
    assert!(failed.attempts.iter().all(|a| a.started_at <= a.ended_at && a.conversation.is_some()));

    // Where, and under which fence. The first attempt as if another node had run it.
    let fences: Vec<i64> = failed.attempts.iter().map(|a| a.fence.unwrap()).collect();
    assert!(fences[0] < fences[1], "{fences:?}");
    let here: Uuid =
        std::fs::read_to_string(node.config.data_dir.join("node_id")).unwrap().trim().parse().unwrap();
    assert!(failed.attempts.iter().all(|a| a.node_id == Some(here) && a.node_name.is_some()), "{failed:?}");
    let far = Uuid::now_v7();
    let moved = format!(
        "INSERT INTO agentpool.nodes (id, incarnation, hostname) VALUES ('{far}', '{far}', 'far-away');
         UPDATE agentpool.checkpoints SET node_id = '{far}' WHERE task_id = '{}' AND fence = {}",
        failed.id, fences[0]
    );
    node.sql().await.batch_execute(&moved).await.unwrap();
    let places = task(&node, failed.id).await.attempts.into_iter().map(|a| (a.node_id, a.node_name));
    let places: Vec<_> = places.collect();
    assert_eq!(places[0], (Some(far), Some("far-away".to_owned())));
    assert_eq!(places[1].0, Some(here));

    let retry = format!("/api/tasks/{}/retry", failed.id);
    let again: TaskView = node.post(&retry, &(), StatusCode::CREATED).await;
    assert_eq!((again.retry_of, again.prompt.as_str()), (Some(failed.id), failed.prompt.as_str()));
    let (again, _) = node.finish(again.id).await;
    assert_eq!(again.status, "failed", "the script counts per task: it is the same task anew");
    assert_eq!(task(&node, failed.id).await.status, "failed", "each of the two ends once");

    let done = node.turn(session, "scripted", "SAY: done").await;
    let refused: Problem =
        node.post(&format!("/api/tasks/{}/retry", done.id), &(), StatusCode::CONFLICT).await;
    assert!(refused.detail.contains("completed"), "{refused:?}");
    let unknown = format!("/api/tasks/{}/retry", Uuid::now_v7());
    node.post::<Problem>(&unknown, &(), StatusCode::NOT_FOUND).await;
    let close = format!("/api/sessions/{session}/close");
    node.post::<ClosedView>(&close, &CloseSession { force: true, ..CloseSession::default() }, StatusCode::OK)
        .await;
    let refused: Problem = node.post(&retry, &(), StatusCode::CONFLICT).await;
    assert!(refused.detail.contains("closed"), "{refused:?}");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_in_the_queue_whole_and_in_order_or_not_at_all() {
    let node = TestNode::scripted().await;
    let session = node.session().await.id;
    let task = |prompt: &str| NewTask {
        session_id: session,
        agent: "scripted".into(),
        prompt: prompt.into(),
        ..NewTask::default()
    };
    let tasks = (0..20).map(|n| task(&format!("SAY: {n}"))).collect();
    let batch: BatchView = node.post("/api/tasks/batch", &NewTasks { tasks }, StatusCode::CREATED).await;
    assert_eq!(batch.ids.len(), 20);
    let mut ends = Vec::new();
    for (n, id) in batch.ids.iter().enumerate() {
        let (task, _) = node.finish(*id).await;
        assert_eq!(task.output, Some(n.to_string()));
        ends.push(task.finished_at.unwrap());
    }
    assert!(ends.is_sorted(), "{ends:?}");

    for (wrong, status, words) in [
        (task(" "), StatusCode::UNPROCESSABLE_ENTITY, "tasks[1]: the prompt is empty"),
        (NewTask { agent: "nobody".into(), ..task("x") }, StatusCode::NOT_FOUND, "no such agent"),
        (NewTask { session_id: Uuid::now_v7(), ..task("x") }, StatusCode::NOT_FOUND, "no such session"),
        (NewTask { priority: Some(999), ..task("x") }, StatusCode::UNPROCESSABLE_ENTITY, "priority"),
    ] {
        let tasks = NewTasks { tasks: vec![task("SAY: fine"), wrong] };
        let refused: Problem = node.post("/api/tasks/batch", &tasks, status).await;
        assert!(refused.detail.contains(words), "{refused:?}");
    }
    for tasks in [Vec::new(), vec![task("x"); 1001]] {
        let refused: Problem =
            node.post("/api/tasks/batch", &NewTasks { tasks }, StatusCode::UNPROCESSABLE_ENTITY).await;
        assert!(refused.detail.contains("1 to 1000"), "{refused:?}");
    }
    assert_eq!(
        node.get::<Vec<TaskView>>("/api/tasks?limit=500").await.len(),
        20,
        "nothing of a refused batch"
    );
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn listings_come_in_pages_that_lose_and_repeat_nothing() {
    let node = TestNode::scripted().await;
    let session = node.session().await.id;
    let tasks = (0..7)
        .map(|_| NewTask {
            session_id: session,
            agent: "scripted".into(),
            prompt: "SAY: x".into(),
            ..NewTask::default()
        })
        .collect();
    let batch: BatchView = node.post("/api/tasks/batch", &NewTasks { tasks }, StatusCode::CREATED).await;
    node.finish(batch.ids[6]).await;
    let mut seen = Vec::new();
    let mut next = Some(format!("/api/tasks?session={session}&status=completed&agent=scripted&limit=3"));
    while let Some(path) = next {
        let answer = node.request(Method::GET, &path).send().await.unwrap();
        let link = answer.headers().get("link").map(|link| link.to_str().unwrap().to_owned());
        next = link.map(|link| link.split(['<', '>']).nth(1).unwrap().to_owned());
        seen.extend(answer.json::<Vec<TaskView>>().await.unwrap().into_iter().map(|task| task.id));
    }
    // By id: those of one millisecond are in no order.
    let mut newest_first = batch.ids.clone();
    newest_first.sort_by(|a, b| b.cmp(a));
    assert_eq!(seen, newest_first);
    for _ in 0..2 {
        node.session().await;
    }
    let first: Vec<SessionView> = node.get("/api/sessions?limit=2").await;
    let rest: Vec<SessionView> = node.get(&format!("/api/sessions?limit=2&before={}", first[1].id)).await;
    assert_eq!((rest.len(), rest[0].id), (1, session));
    let project = first[0].project_id;
    assert_eq!(node.get::<Vec<SessionView>>(&format!("/api/sessions?project={project}")).await.len(), 3);
    let other = Uuid::now_v7();
    assert!(node.get::<Vec<SessionView>>(&format!("/api/sessions?project={other}")).await.is_empty());
    assert_eq!(node.get::<Vec<WorkspaceView>>("/api/workspaces").await[0].name, "default");
    node.stop().await;
}
