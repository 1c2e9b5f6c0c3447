//! Streams and plain pages tell the same, on any node, wherever a reader begins or is cut off.

use crate::support::node::{PATIENCE, Talk, TestNode, scripted_config};
use agentpool::wire::api::{Problem, StreamEnd};
use agentpool::wire::event::EventView;
use eventsource_stream::Eventsource;
use futures::StreamExt;
use reqwest::{Method, StatusCode};
use serde_json::Value;
use std::time::Duration;
use uuid::Uuid;

/// What a reader gets from a cursor on: (id, event, data), at most so many.
async fn read(
    talk: &Talk,
    path: &str,
    cursor: Option<&str>,
    at_most: usize,
) -> Vec<(String, String, String)> {
    let request = talk.request(Method::GET, path);
    let request = cursor.iter().fold(request, |request, cursor| request.header("Last-Event-ID", *cursor));
    let answer = request.send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    let events = answer.bytes_stream().eventsource().map(Result::unwrap).filter(|event| {
        let keep = event.event != "beat";
        async move { keep }
    });
    let all = events.take(at_most).map(|event| (event.id, event.event, event.data)).collect();
    tokio::time::timeout(PATIENCE, all).await.expect("the stream goes on")
}

async fn messages(talk: &Talk, path: &str) -> Vec<EventView> {
    let mut all = Vec::new();
    let mut next = Some(path.to_owned());
    while let Some(path) = next {
        let answer = talk.request(Method::GET, &path).send().await.unwrap();
        let link = answer.headers().get("link").map(|link| link.to_str().unwrap().to_owned());
        next = link.map(|link| link.split(['<', '>']).nth(1).unwrap().to_owned());
        all.extend(answer.json::<Vec<EventView>>().await.unwrap());
    }
    all
}

/// A reader of another node that is cut off after every single event while the turn runs, and one that was never cut off.
#[tokio::test(flavor = "multi_thread")]
async fn a_reader_cut_off_after_each_event_sees_each_event_once_though_the_turn_is_on_another_node() {
    let (folder, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let config = scripted_config(&folder).await;
    let mut other = config.clone();
    other.data_dir = elsewhere.path().join("data");
    let node = TestNode::start(config, vec![folder]).await;
    let other = TestNode::start(other, vec![elsewhere]).await;
    let session = node.session().await.id;
    let task = node.submit(session, "scripted", "SLOW:120").await;
    let path = format!("/api/tasks/{}/events", task.id);

    let cut_off = async |talk: &Talk| {
        let mut cursor: Option<String> = None;
        let mut data = Vec::new();
        loop {
            let (id, event, said) = read(talk, &path, cursor.as_deref(), 1).await.remove(0);
            if event == "end" {
                return (data, serde_json::from_str::<StreamEnd>(&said).unwrap());
            }
            assert_eq!(event, "message");
            cursor = Some(id);
            data.push(said);
        }
    };
    let ((here, end), (there, end_there), whole) =
        tokio::join!(cut_off(&node), cut_off(&other), read(&other, &path, None, usize::MAX));
    let whole: Vec<String> = whole.into_iter().map(|(_, _, data)| data).collect();
    assert_eq!(here, whole[..whole.len() - 1]);
    assert_eq!(there, here);
    let events: Vec<EventView> = here.iter().map(|data| serde_json::from_str(data).unwrap()).collect();
    assert!(events.len() > 5, "{}", events.len());
    assert!(events.windows(2).all(|pair| pair[1].pos == pair[0].pos + 1 && pair[1].seq == pair[0].seq + 1));
    assert_eq!((end.status.as_str(), end.last_pos), ("completed", events.last().unwrap().pos));
    assert_eq!(end_there.last_pos, end.last_pos);

    // The plain pages have the same rows.
    for talk in [&node, &other] {
        let plain = messages(talk, &format!("/api/tasks/{}/messages?limit=7", task.id)).await;
        let plain: Vec<String> = plain.iter().map(|event| serde_json::to_string(event).unwrap()).collect();
        assert_eq!(plain, here);
    }
    other.stop().await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_paged_from_a_position_or_from_its_end() {
    let node = TestNode::scripted().await;
    let session = node.session().await.id;
    for n in 0..4 {
        node.turn(session, "scripted", &format!("SAY: {n}")).await;
    }
    let path = format!("/api/sessions/{session}/messages");
    let all = messages(&node, &format!("{path}?limit=5")).await;
    assert!(all.windows(2).all(|pair| pair[1].pos == pair[0].pos + 1), "{all:?}");
    let pos = |events: Vec<EventView>| events.into_iter().map(|event| event.pos).collect::<Vec<_>>();
    let last = all.len() as i64;
    assert_eq!(pos(node.get(&format!("{path}?tail=3")).await), [last - 2, last - 1, last]);
    assert_eq!(pos(node.get(&format!("{path}?since={}", last - 1)).await), [last]);
    let streamed = read(&node, &format!("/api/sessions/{session}/events"), None, all.len()).await;
    let id = &streamed[all.len() - 2].0;
    assert_eq!(pos(node.get(&format!("{path}?since={id}")).await), [last], "an event's id will do");
    for wrong in
        ["since=-1", "since=x", "since=other:1", "tail=0", "tail=3&since=1", "limit=501", "nonsense=1"]
    {
        let answer = node.request(Method::GET, &format!("{path}?{wrong}")).send().await.unwrap();
        assert!(answer.status().is_client_error(), "{wrong}: {}", answer.status());
        assert!(!answer.json::<Problem>().await.unwrap().detail.is_empty());
    }
    let unknown = format!("/api/sessions/{}/messages", Uuid::now_v7());
    assert_eq!(node.request(Method::GET, &unknown).send().await.unwrap().status(), StatusCode::NOT_FOUND);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_of_many_sessions_and_tasks_each_get_their_own() {
    let node = TestNode::scripted().await;
    let mut following = Vec::new();
    for n in 0..4 {
        let session = node.session().await.id;
        let first = node.submit(session, "scripted", &format!("SAY: a{n}\nSLOW:20")).await;
        let second = node.submit(session, "scripted", &format!("SLOW:20\nSAY: b{n}")).await;
        for task in [first.id, second.id, second.id] {
            let talk = (*node).clone();
            following.push(tokio::spawn(async move { (task, talk.finish(task).await) }));
        }
    }
    for following in following {
        let (task, (view, events)) = following.await.unwrap();
        assert_eq!(view.status, "completed");
        assert!(events.iter().all(|event| event.task_id == task));
        let seqs: Vec<i64> = events.iter().map(|event| event.seq).collect();
        assert_eq!(seqs, (1..=events.len() as i64).collect::<Vec<_>>());
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hints_name_the_session_that_has_news() {
    let node = TestNode::scripted().await;
    let session = node.session().await.id;
    let answer = node.request(Method::GET, "/api/events").send().await.unwrap();
    let mut hints = answer.bytes_stream().eventsource();
    let first = hints.next().await.unwrap().unwrap();
    assert_eq!((first.event.as_str(), first.data.as_str()), ("hint", "{}"), "look at all once");
    node.submit(session, "scripted", "SAY: hi").await;
    let named = async {
        loop {
            let hint: Value = serde_json::from_str(&hints.next().await.unwrap().unwrap().data).unwrap();
            if hint["session_id"] == session.to_string() {
                return;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(30), named).await.expect("the session is named");
    node.stop().await;
}
