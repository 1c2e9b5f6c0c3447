//! A tool's whole output, over HTTP and by the command line.

use crate::support::cli::User;
use crate::support::node::{Talk, TestNode};
use agentpool::domain::tool_output::{pack, preview};
use agentpool::wire::api::{NewToken, NewTokenView, NewWorkspace, WorkspaceView};
use agentpool::wire::event::EventView;
use reqwest::{Method, StatusCode};

#[tokio::test(flavor = "multi_thread")]
async fn the_whole_of_an_output_is_there_for_those_whose_task_it_is() {
    let node = TestNode::scripted().await;
    let session = node.session().await.id;
    let task = node.turn(session, "scripted", "TOOL:write a.txt x").await.id;
    let events = node.get::<Vec<EventView>>(&format!("/api/tasks/{task}/messages")).await;
    let ended = events.iter().rfind(|event| event.kind == "tool_update").expect("a tool ran");
    // As if it had said more than its row shows.
    let whole = "näturally\u{1b}[31m ".repeat(20_000);
    let sql = node.sql().await;
    let shown = preview(&whole).unwrap();
    let (bytes, packed) = (whole.len() as i64, pack(whole.clone()));
    let update =
        "UPDATE agentpool.task_messages SET output = $3, output_bytes = $4 WHERE task_id = $1 AND seq = $2";
    sql.execute(update, &[&task, &ended.seq, &shown, &bytes]).await.unwrap();
    let insert = "INSERT INTO agentpool.tool_outputs (task_id, seq, bytes, body) VALUES ($1, $2, $3, $4)";
    sql.execute(insert, &[&task, &ended.seq, &bytes, &&packed[..]]).await.unwrap();

    let path = |seq: i64| format!("/api/tasks/{task}/messages/{seq}/output");
    let events = node.get::<Vec<EventView>>(&format!("/api/tasks/{task}/messages")).await;
    let seen = events.iter().find(|event| event.seq == ended.seq).unwrap();
    assert_eq!((seen.output_bytes, seen.output.as_deref()), (Some(bytes), Some(&shown[..])));
    assert!(events.iter().filter(|event| event.seq != ended.seq).all(|event| event.output_bytes.is_none()));
    let answer = node.request(Method::GET, &path(ended.seq)).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(answer.headers()["content-type"], "text/plain; charset=utf-8");
    assert!(answer.text().await.unwrap() == whole);
    let said = User::of(&node.url).with("AGENTPOOL_TOKEN", &node.token);
    let said = said.run(&["task", "output", &task.to_string(), &ended.seq.to_string()]).await.expect(0);
    assert!(said.stdout == whole, "into a file or another program it goes as it is");

    // None, or none any more.
    let status =
        async |talk: &Talk, seq| talk.request(Method::GET, &path(seq)).send().await.unwrap().status();
    assert_eq!(
        (status(&node, 1).await, status(&node, 9999).await),
        (StatusCode::NOT_FOUND, StatusCode::NOT_FOUND)
    );
    let other = NewWorkspace { name: "other".into() };
    node.post::<WorkspaceView>("/api/workspaces", &other, StatusCode::CREATED).await;
    let body = NewToken { name: "x".into(), scope: "client".into(), workspace: Some("other".into()) };
    let made: NewTokenView = node.post("/api/tokens", &body, StatusCode::CREATED).await;
    let stranger = Talk { token: made.secret, ..(*node).clone() };
    assert_eq!(status(&stranger, ended.seq).await, StatusCode::NOT_FOUND);
    sql.batch_execute("DELETE FROM agentpool.tool_outputs").await.unwrap();
    assert_eq!(status(&node, ended.seq).await, StatusCode::NOT_FOUND);
    node.stop().await;
}
