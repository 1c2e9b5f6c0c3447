//! What turns used, in sums, for whoever sees their sessions.

use crate::support::cli::User;
use crate::support::node::TestNode;
use agentpool::wire::api::{NewToken, NewTokenView, NewWorkspace, Problem, UsageView, WorkspaceView};
use reqwest::{Method, StatusCode};

#[tokio::test(flavor = "multi_thread")]
async fn sums_are_by_what_was_asked_and_of_what_the_token_sees() {
    let node = TestNode::scripted().await;
    let (one, other) = (node.session().await.id, node.session().await.id);
    for session in [one, one, other] {
        node.turn(session, "scripted", "SAY: three words here").await;
    }
    let by_agent: Vec<UsageView> = node.get("/api/usage").await;
    let [agent] = &by_agent[..] else { panic!("{by_agent:?}") };
    assert_eq!((agent.key.as_str(), agent.turns, agent.output_tokens), ("scripted", 3, 9));
    let by_session: Vec<UsageView> = node.get("/api/usage?by=session").await;
    let of = |id: uuid::Uuid| by_session.iter().find(|sum| sum.key == id.to_string()).unwrap().turns;
    assert_eq!((of(one), of(other)), (2, 1));
    let by_day: Vec<UsageView> = node.get("/api/usage?by=day").await;
    assert!(by_day.iter().all(|sum| sum.key.len() == 10 && sum.key.starts_with("20")), "{by_day:?}");
    assert_eq!(by_day.iter().map(|sum| sum.turns).sum::<i64>(), 3);
    let later = (chrono::Utc::now() + chrono::Duration::hours(1)).format("%Y-%m-%dT%H:%M:%SZ");
    let none: Vec<UsageView> =
        node.get(&format!("/api/usage?since={later}&until=2100-01-01T00:00:00Z")).await;
    assert!(none.is_empty());
    for wrong in ["by=colour", "since=yesterday", "until=%2B100000-01-01T00:00:00Z", "limit=0"] {
        let answer = node.request(Method::GET, &format!("/api/usage?{wrong}")).send().await.unwrap();
        assert!(answer.status().is_client_error(), "{wrong}: {}", answer.status());
        assert!(!answer.json::<Problem>().await.unwrap().detail.is_empty());
    }
    let aside = NewWorkspace { name: "aside".into() };
    node.post::<WorkspaceView>("/api/workspaces", &aside, StatusCode::CREATED).await;
    let body = NewToken { name: "c".into(), scope: "client".into(), workspace: Some("aside".into()) };
    let client: NewTokenView = node.post("/api/tokens", &body, StatusCode::CREATED).await;
    let url = format!("{}/api/usage", node.url);
    let seen = reqwest::Client::new().get(url).bearer_auth(client.secret).send().await.unwrap();
    assert!(seen.json::<Vec<UsageView>>().await.unwrap().is_empty(), "another workspace's turns");
    let user = User::of(&node.url).with("AGENTPOOL_TOKEN", node.token.clone());
    let shown = user.run(&["usage", "--by", "project"]).await.expect(0).stdout;
    assert!(shown.contains("PROJECT") && shown.contains('9'), "{shown}");
    node.stop().await;
}
