//! F91, F92, F94: a task that kills its agent, a provider that is away, a submit whose answer is lost. On a whole node.

use crate::support::cli::User;
use crate::support::lossy_way::LossyWay;
use crate::support::node::TestNode;
use agentpool::wire::api::{NewTask, TaskView};
use reqwest::StatusCode;
use std::collections::HashSet;

#[tokio::test(flavor = "multi_thread")]
async fn f91_a_task_that_kills_its_agent_each_time_fails_after_three_and_its_lane_goes_on() {
    let node = TestNode::scripted().await;
    let session = node.session().await;
    let poison = node.submit(session.id, "scripted", "CRASH").await;
    let next = node.submit(session.id, "scripted", "SAY: next").await;
    for failures in 1..=2 {
        let waiting = format!(
            "SELECT count(*) = 1 FROM agentpool.lanes l JOIN agentpool.tasks t ON t.id = l.head_task
             WHERE l.state = 3 AND t.failures = {failures}"
        );
        node.until(&waiting).await;
        let behind: TaskView = node.get(&format!("/api/tasks/{}", next.id)).await;
        assert_eq!((behind.status.as_str(), behind.attempt), ("queued", 0), "the head holds its lane");
        let over = "UPDATE agentpool.lanes SET wake_at = clock_timestamp() WHERE state = 3;
                    UPDATE agentpool.tasks SET run_at = clock_timestamp() WHERE failures > 0; NOTIFY tasks_new";
        node.sql().await.batch_execute(over).await.unwrap();
    }
    let (poison, _) = node.finish(poison.id).await;
    assert_eq!((poison.status.as_str(), poison.failure_reason.as_deref()), ("failed", Some("agent_crashed")));
    assert_eq!((poison.failures, poison.attempt), (3, 3));
    assert_eq!(node.finish(next.id).await.0.status, "completed");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f92_retries_after_a_providers_outage_are_spread_and_a_head_that_waits_holds_only_its_lane() {
    const LANES: usize = 60;
    let node = TestNode::scripted().await;
    let sql = node.sql().await;
    let watch = "CREATE TABLE public.waits (failures integer, secs float8);
        CREATE FUNCTION public.note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            INSERT INTO public.waits VALUES (NEW.failures, extract(epoch FROM NEW.run_at - clock_timestamp())); RETURN NULL; END $$;
        CREATE TRIGGER waits AFTER UPDATE OF status ON agentpool.tasks FOR EACH ROW
            WHEN (NEW.status = 'queued' AND OLD.status <> 'queued') EXECUTE FUNCTION public.note()";
    sql.batch_execute(watch).await.unwrap();
    for _ in 0..LANES {
        node.submit(node.session().await.id, "scripted", "FAIL:provider_error").await;
    }
    node.until(&format!("SELECT count(*) >= {LANES} FROM public.waits WHERE failures = 1")).await;
    // Everybody waits or fails; a lane of its own does not care.
    assert_eq!(node.turn(node.session().await.id, "scripted", "SAY: hi").await.status, "completed");
    let query = "SELECT array_agg(secs) FROM public.waits WHERE failures = 1";
    let waits: Vec<f64> = sql.query_one(query, &[]).await.unwrap().get(0);
    assert_eq!(waits.len(), LANES, "each failed once at its first try");
    let mean = waits.iter().sum::<f64>() / LANES as f64;
    println!("mean wait after a first failure: {mean:.2} s");
    assert!(waits.iter().all(|secs| *secs <= 5.0), "longer than 5 s: {waits:?}");
    assert!((1.5..=3.5).contains(&mean), "not a full jitter over 0 to 5 s: {mean}");
    let in_second = |n: usize| waits.iter().filter(|secs| secs.max(0.0) as usize == n).count();
    let spread: Vec<usize> = (0..5).map(in_second).collect();
    assert!(
        spread.iter().all(|count| (1..=LANES / 2).contains(count)),
        "they come back together: {spread:?}"
    );
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f94_submits_repeated_over_a_way_that_loses_answers_are_one_task_each() {
    const SUBMITS: usize = 40;
    let node = TestNode::scripted().await;
    let session = node.session().await.id;
    let way = LossyWay::to(&node.url, "POST /api/tasks ").await;
    let submit = async |number: usize| {
        let task = NewTask {
            session_id: session,
            agent: "scripted".into(),
            prompt: format!("SAY: {number}"),
            ..NewTask::default()
        };
        loop {
            let client = reqwest::Client::builder().pool_max_idle_per_host(0).build().unwrap();
            let request = client.post(format!("{}/api/tasks", way.url)).bearer_auth(&node.token);
            let request = request.header("Idempotency-Key", format!("key {number}")).json(&task);
            if let Ok(answer) = request.send().await {
                let status = answer.status();
                assert!([StatusCode::CREATED, StatusCode::OK].contains(&status), "{status}");
                return answer.json::<TaskView>().await.unwrap().id;
            }
        }
    };
    let ids = futures::future::join_all((0..SUBMITS).map(submit)).await;
    assert!(way.lost() as usize >= SUBMITS / 2, "{} answers were lost", way.lost());
    assert_eq!(ids.iter().collect::<HashSet<_>>().len(), SUBMITS);
    for id in &ids {
        assert_eq!(node.finish(*id).await.0.status, "completed");
    }
    // The command line, as a person repeats it: the first answers are lost, then it is told which task it was.
    let user = User::of(&way.url).with("AGENTPOOL_TOKEN", &node.token);
    let session = session.to_string();
    let args = ["submit", "--session", &session, "--idempotency-key", "mine", "--json", "SAY: mine"];
    let told = loop {
        let said = user.run(&args).await;
        match said.code {
            Some(0) => break said.json(),
            Some(69) => assert!(said.stderr.contains("did not answer"), "{said:?}"),
            _ => panic!("{said:?}"),
        }
    };
    let all: Vec<TaskView> = node.get(&format!("/api/tasks?session={session}&limit=500")).await;
    assert_eq!(all.len(), SUBMITS + 1);
    assert_eq!(told["id"], all[0].id.to_string(), "the newest");
    node.stop().await;
}
