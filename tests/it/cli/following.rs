//! Following a task: over connections that break, to its end or to ^C.

use super::*;

/// The first connection breaks in the middle, the next answer is "not yet", the third goes on where the first stopped.
#[tokio::test]
async fn a_dropped_stream_goes_on_where_it_stopped_and_shows_nothing_twice() {
    let cursors = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&cursors);
    let stream = move |headers: HeaderMap| {
        let cursor = headers.get("last-event-id").map(|value| value.to_str().unwrap().to_owned());
        let mut seen = seen.lock().unwrap();
        seen.push(cursor);
        match seen.len() {
            1 => {
                let begun =
                    message(1, "text", "one ") + "event: beat\ndata: {}\n\n" + &message(2, "text", "two ");
                // The pause in between lets the server write what it has before it breaks off.
                let cut = futures::stream::once(async {
                    tokio::task::yield_now().await;
                    Err(io::Error::other("cut"))
                });
                let body = Body::from_stream(futures::stream::iter([Ok(Bytes::from(begun))]).chain(cut));
                ([("content-type", "text/event-stream")], body).into_response()
            }
            2 => problem(503, "starting"),
            _ => sse(message(3, "text", "three\n") + &end("completed")),
        }
    };
    let user = User::of(&serve(service_with(stream)).await);
    let ended = user.run(&["tail", &TASK.to_string()]).await.expect(0);
    assert_eq!(ended.stdout, "one two three\ncompleted\n");
    assert!(ended.stderr.contains("connecting again"), "{}", ended.stderr);
    let resumed = Some("e:2".to_owned());
    assert_eq!(*cursors.lock().unwrap(), [None, resumed.clone(), resumed]);
}

#[tokio::test]
async fn a_stream_of_another_database_begins_again_without_the_old_cursor() {
    let cursors = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&cursors);
    let stream = move |headers: HeaderMap| {
        let mut seen = seen.lock().unwrap();
        seen.push(headers.contains_key("last-event-id"));
        let resync = "event: resync\ndata: {\"reason\": \"x\", \"after\": 0}\n\n".to_owned();
        match seen.len() {
            1 => sse(message(7, "text", "old\n")),
            2 => sse(resync),
            _ => sse(message(1, "text", "new\n") + &end("completed")),
        }
    };
    let user = User::of(&serve(service_with(stream)).await);
    let ended = user.run(&["tail", &TASK.to_string()]).await.expect(0);
    assert_eq!(ended.stdout, "old\nnew\ncompleted\n");
    assert!(ended.stderr.contains("begins again"), "{}", ended.stderr);
    assert_eq!(*cursors.lock().unwrap(), [false, true, false]);
}

#[tokio::test]
async fn the_end_of_a_followed_task_is_the_exit_code() {
    for (status, code) in [("completed", 0), ("failed", 3), ("cancelled", 3)] {
        let user = User::of(&serve(service_with(move |_| sse(end(status)))).await);
        let session = SESSION.to_string();
        let ended =
            user.run(&["submit", "--session", &session, "--follow", "--json", "x"]).await.expect(code);
        let lines: Vec<Value> =
            ended.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines[0]["id"], json!(TASK));
        assert_eq!(lines.last().unwrap()["status"], status);
    }
}

#[tokio::test]
async fn a_question_is_shown_with_the_command_that_answers_it() {
    let answered = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&answered);
    let id = Uuid::from_u128(3);
    let stream = |_| sse(message(1, "permission", "bash: ls") + &end("completed"));
    let router = service_with(stream).route(
        &format!("/api/permissions/{id}/answer"),
        post(async move |Json(body): Json<Value>| {
            heard.lock().unwrap().push(body);
            Json(permission())
        }),
    );
    let url = serve(router).await;
    let user = User::new();
    let shown = user.run(&["tail", &TASK.to_string(), "--url", &url]).await.expect(0).stdout;
    let command = format!("agentpool permission answer {id} allow|always|deny --url {url}");
    assert!(shown.contains("? bash: ls") && shown.contains(&command), "{shown}");

    let id = id.to_string();
    let user = User::of(&url);
    for words in [
        &["allow"][..],
        &["always"],
        &["deny", "--message", "not there"],
        &["--answer", "red", "--answer", "small|round"],
    ] {
        user.run(&[&["permission", "answer", &id], words].concat()).await.expect(0);
    }
    let wanted = [
        json!({"decision": "allow_once"}),
        json!({"decision": "allow_always"}),
        json!({"decision": "deny", "message": "not there"}),
        json!({"decision": "answers", "answers": [["red"], ["small", "round"]]}),
    ];
    assert_eq!(*answered.lock().unwrap(), wanted);
}

#[tokio::test]
async fn an_interrupt_detaches_and_says_how_to_follow_again() {
    let stream = |_| {
        let first = futures::stream::iter([Ok::<_, Infallible>(Bytes::from(message(1, "text", "begun\n")))]);
        let body = Body::from_stream(first.chain(futures::stream::pending()));
        ([("content-type", "text/event-stream")], body).into_response()
    };
    let user = User::of(&serve(service_with(stream)).await);
    let session = SESSION.to_string();
    let mut following = user.start(&["submit", "--session", &session, "--follow", "x"]);
    following.line_with("begun").await;
    following.signal(Signal::SIGINT);
    let ended = following.end().await.expect(130);
    assert!(ended.stderr.contains(&format!("agentpool tail {TASK}")), "{}", ended.stderr);
}
