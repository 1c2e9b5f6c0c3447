//! The fixture agent keeps its own promises, told in raw lines: other tests stand on them.

use crate::support::fixture_agent::RawTalk;
use serde_json::{Value, json};
use tempfile::tempdir;

#[tokio::test]
async fn it_speaks_remembers_and_stops_when_cancelled() {
    let (home, folder) = (tempdir().unwrap(), tempdir().unwrap());
    let mut talk = RawTalk::start(home.path(), "");
    let session = talk.open(folder.path()).await;
    let id = talk.prompt(&session, "SAY: hello").await;
    let end = talk.answer(id).await;
    assert_eq!((end["result"]["stopReason"].as_str(), talk.said().as_str()), (Some("end_turn"), "hello"));
    assert_eq!(end["result"]["usage"]["outputTokens"], 1);

    let id = talk.prompt(&session, "SLOW:1000").await;
    while talk.hear().await["params"]["update"]["content"]["text"] != "tok1 " {}
    talk.cancel(&session).await;
    assert_eq!(talk.answer(id).await["result"]["stopReason"], "cancelled");

    // As a SIGKILL would leave it: the next process knows what the first was told.
    drop(talk);
    let mut talk = RawTalk::start(home.path(), "banner");
    talk.call("initialize", json!({"protocolVersion": 1})).await;
    let load = json!({"sessionId": session, "cwd": folder.path(), "mcpServers": []});
    let loaded = talk.call("session/load", load).await;
    assert_eq!(loaded["result"]["modes"]["currentModeId"], "build", "{loaded}");
    assert!(talk.said().starts_with("hello"), "the history is replayed");
    let id = talk.prompt(&session, "RECALL").await;
    talk.answer(id).await;
    assert_eq!(talk.said(), "RECALL 2 prior user turns: SAY: hello | SLOW:1000");
}

#[tokio::test]
async fn it_asks_before_it_writes_and_heeds_the_answer() {
    let (home, folder) = (tempdir().unwrap(), tempdir().unwrap());
    let mut talk = RawTalk::start(home.path(), "");
    let session = talk.open(folder.path()).await;
    for (option, written) in [("no", false), ("once", true)] {
        let id = talk.prompt(&session, "TOOL:write a.txt made").await;
        let request = loop {
            let message = talk.hear().await;
            if message["method"] == "session/request_permission" {
                break message;
            }
        };
        assert_eq!(request["params"]["toolCall"]["kind"], "edit");
        let outcome = json!({"outcome": {"outcome": "selected", "optionId": option}});
        talk.send(&json!({"jsonrpc": "2.0", "id": request["id"], "result": outcome})).await;
        assert_eq!(talk.answer(id).await["result"]["stopReason"], "end_turn");
        assert_eq!(folder.path().join("a.txt").exists(), written);
    }
}

#[tokio::test]
async fn a_big_model_brings_an_option_that_leaves_with_it() {
    let (home, folder) = (tempdir().unwrap(), tempdir().unwrap());
    let mut talk = RawTalk::start(home.path(), "");
    let session = talk.open(folder.path()).await;
    let ids = |answer: &Value| -> Vec<String> {
        let options = answer["result"]["configOptions"].as_array().unwrap();
        options.iter().map(|option| option["id"].as_str().unwrap().to_owned()).collect()
    };
    let set = |value: &str| json!({"sessionId": session, "configId": "model", "value": value});
    let big = talk.call("session/set_config_option", set("big")).await;
    assert_eq!(ids(&big), ["model", "thought_level", "tone", "context"]);
    let small = talk.call("session/set_config_option", set("small")).await;
    assert_eq!(ids(&small), ["model", "thought_level", "tone"]);
    let huge = talk.call("session/set_config_option", set("huge")).await;
    assert_eq!(huge["error"]["code"], -32602);
}

#[tokio::test]
async fn it_misbehaves_as_it_is_told() {
    let (home, folder) = (tempdir().unwrap(), tempdir().unwrap());
    let mut talk = RawTalk::start(home.path(), "lose_cancel=1,lie_resume,v2");
    let initialized = talk.call("initialize", json!({"protocolVersion": 1})).await;
    assert_eq!(initialized["result"]["protocolVersion"], 2);
    let session = talk.open(folder.path()).await;
    let resume = json!({"sessionId": session, "cwd": folder.path(), "mcpServers": []});
    assert_eq!(talk.call("session/resume", resume).await["error"]["code"], -32601);

    let failing = "FAIL:429@30x1\nSAY: now it works";
    let id = talk.prompt(&session, failing).await;
    let failed = talk.answer(id).await;
    assert_eq!(
        (&failed["error"]["code"], &failed["error"]["data"]["retry_after"]),
        (&json!(-32603), &json!(30))
    );
    let id = talk.prompt(&session, failing).await;
    talk.answer(id).await;
    assert_eq!(talk.said(), "now it works");

    let id = talk.prompt(&session, "GARBAGE:2\nNOT_UTF8\nUNKNOWN_UPDATE\nFOREIGN: psst\nHANG").await;
    while talk.hear().await["params"]["update"]["content"]["text"] != "psst" {}
    talk.cancel(&session).await;
    talk.cancel(&session).await;
    assert_eq!(talk.answer(id).await["result"]["stopReason"], "cancelled");

    let id = talk.prompt(&session, "TWICE\nSAY: once").await;
    assert_eq!(talk.answer(id).await, talk.answer(id).await);
    talk.prompt(&session, "EXIT:3").await;
    assert_eq!(talk.child.wait().await.unwrap().code(), Some(3));
}
