//! Tasks that agents run over ACP, through the real program: rows, streams, questions, restarts, and a storm of kills.

use crate::support::cluster::fresh_database;
use crate::support::fixture_agent::fixture_agent;
use crate::support::leaks::{marked_processes, until};
use crate::support::node::PATIENCE;
use crate::support::serve::{Place, Served};
use agentpool::wire::event::EventView;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

/// An `[agents.NAME]` table of the fixture agent with these faults and these further lines.
fn agent(name: &str, faults: &str, more: &str) -> String {
    agent_at(fixture_agent(), name, faults, more)
}

fn agent_at(program: &Path, name: &str, faults: &str, more: &str) -> String {
    format!(
        "[agents.{name}]\nbackend = \"acp_warm\"\ncommand = {program:?}\nhome = \"isolated\"\n{more}\n\
         [agents.{name}.env]\nFIXTURE = {faults:?}\n"
    )
}

async fn place(settings: &str) -> Place {
    Place::on(&fresh_database().await, settings)
}

fn notices(events: &[EventView]) -> String {
    let notices = events.iter().filter(|event| event.kind == "notice");
    notices.filter_map(|event| event.content.clone()).collect::<Vec<_>>().join("\n")
}

async fn end(served: Served) {
    served.signal(Signal::SIGTERM);
    assert_eq!(served.ended().await.0.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn turns_are_warm_survive_a_restart_and_change_hands_in_one_worktree() {
    let place = place(&(agent("left", "", "") + &agent("right", "no_resume", ""))).await;
    let served = place.serve().await;
    let talk = &served.talk;
    let session = talk.session().await.id;
    let first = talk.turn(session, "left", "TOOL:write left.txt one\nPID").await;
    assert_eq!(first.status, "completed", "{first:?}");
    let second = talk.turn(session, "left", "PID").await;
    assert!(
        first.output.unwrap().contains(second.output.as_deref().unwrap().trim()),
        "the process was not kept"
    );
    talk.turn(session, "right", "SAY: remember the dove").await;
    let seen = talk.turn(session, "right", "TOOL:read left.txt").await;
    assert!(seen.output.unwrap().contains("one"), "two agents share the worktree");
    let changes: Value = talk.get(&format!("/api/sessions/{session}/changes")).await;
    assert!(changes.to_string().contains("left.txt") && changes.to_string().contains("\"agent\":\"left\""));
    // A restart: resumed, and loaded.
    end(served).await;
    let served = place.serve().await;
    for (agent, before) in [("left", "left.txt"), ("right", "dove")] {
        let told = served.talk.turn(session, agent, "RECALL").await;
        assert!(told.output.as_deref().unwrap().contains(before), "{agent}: {told:?}");
    }
    end(served).await;
    place.nothing_is_left();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_resumed_is_told_again_and_said_so() {
    let place = place(&agent("plain", "no_resume,no_load", "")).await;
    let served = place.serve().await;
    let session = served.talk.session().await.id;
    served.talk.turn(session, "plain", "SAY: remember the dove").await;
    served.signal(Signal::SIGKILL);
    served.ended().await;
    let served = place.serve().await;
    let task = served.talk.submit(session, "plain", "SAY: and on").await;
    let (ended, events) = served.talk.finish(task.id).await;
    assert_eq!(ended.output.as_deref(), Some("and on"));
    assert!(notices(&events).contains("told again"), "{}", notices(&events));
    let recalled = served.talk.turn(session, "plain", "RECALL").await.output.unwrap();
    assert!(recalled.contains("dove"), "{recalled}");
    end(served).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_policy_answers_and_a_person_does() {
    let policy = |word: &str| format!("permission = {{ policy = {word:?}, deadline_secs = 60 }}");
    let place = place(
        &(agent("allows", "", &policy("allow"))
            + &agent("reads", "", &policy("allow_reads"))
            + &agent("denies", "", &policy("deny"))
            + &agent("asks", "", &policy("ask"))),
    )
    .await;
    let served = place.serve().await;
    let talk = &served.talk;
    let session = talk.session().await.id;
    talk.turn(session, "allows", "TOOL:write a.txt written").await;
    for (agent, reads, writes) in [("allows", true, true), ("reads", true, false), ("denies", false, false)] {
        let read = talk.turn(session, agent, "TOOL:read a.txt").await.output.unwrap_or_default();
        assert_eq!(read.contains("written"), reads, "{agent}: {read}");
        talk.turn(session, agent, &format!("TOOL:write {agent}.txt x\nSAY: done")).await;
        let changes: Value = talk.get(&format!("/api/sessions/{session}/changes")).await;
        assert_eq!(changes.to_string().contains(&format!("{agent}.txt")), writes, "{agent}");
    }
    let task = talk.submit(session, "asks", "TOOL:write asked.txt x").await;
    let request = talk.one_pending_permission().await;
    assert!(
        request.title.contains("asked.txt") || request.payload.to_string().contains("asked.txt"),
        "{request:?}"
    );
    let answer = json!({"decision": "allow_once"});
    let _: Value =
        talk.post(&format!("/api/permissions/{}/answer", request.id), &answer, reqwest::StatusCode::OK).await;
    assert_eq!(talk.finish(task.id).await.0.status, "completed");
    let changes: Value = talk.get(&format!("/api/sessions/{session}/changes")).await;
    assert!(changes.to_string().contains("asked.txt"));
    // Cancelled while a person is asked.
    let task = talk.submit(session, "asks", "TOOL:write never.txt x").await;
    talk.one_pending_permission().await;
    talk.cancel(task.id).await;
    assert_eq!(talk.finish(task.id).await.0.status, "cancelled");
    let open: Vec<Value> = talk.get("/api/permissions").await;
    assert!(open.is_empty(), "{open:?}");
    end(served).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn standing_rules_answer_by_the_files_that_an_agent_names_and_not_by_its_titles() {
    let place = place(&agent("asks", "", "permission = { policy = \"ask\" }")).await;
    let served = place.serve().await;
    let talk = &served.talk;
    let session = talk.session().await.id;
    let rule = json!({"session_id": session, "agent": "asks", "tool": "edit", "pattern": "src/**", "decision": "allow"});
    let rule: Value = talk.post("/api/permission-rules", &rule, reqwest::StatusCode::CREATED).await;
    let wrote = talk.turn(session, "asks", "TOOL:write src/a.txt x").await;
    assert_eq!(wrote.output.as_deref(), Some("wrote src/a.txt"));
    let asked: Value = talk.get("/api/permissions?all=true").await;
    assert_eq!(asked[0]["answered_by"], json!(format!("rule {}", rule["id"].as_str().unwrap())));
    // Beside it a person is asked, and may say that just this file is always right.
    let task = talk.submit(session, "asks", "TOOL:write src/../docs/b.txt x").await;
    let request = talk.one_pending_permission().await;
    let path = format!("/api/permissions/{}/answer", request.id);
    let always = json!({"decision": "allow_always", "rule": "agent"});
    talk.post::<Value>(&path, &always, reqwest::StatusCode::UNPROCESSABLE_ENTITY).await;
    talk.post::<Value>(&path, &json!({"decision": "deny"}), reqwest::StatusCode::OK).await;
    talk.finish(task.id).await;
    let task = talk.submit(session, "asks", "TOOL:write docs/b.txt x").await;
    let request = talk.one_pending_permission().await;
    let path = format!("/api/permissions/{}/answer", request.id);
    talk.post::<Value>(&path, &always, reqwest::StatusCode::OK).await;
    assert_eq!(talk.finish(task.id).await.0.output.as_deref(), Some("wrote docs/b.txt"));
    let other = talk.session().await.id;
    let wrote = talk.turn(other, "asks", "TOOL:write docs/b.txt x").await;
    assert_eq!(wrote.output.as_deref(), Some("wrote docs/b.txt"), "the agent's rule holds in every session");
    let rules: Value = talk.get("/api/permission-rules?agent=asks").await;
    assert_eq!((&rules[0]["pattern"], &rules[0]["exact"]), (&json!("docs/b.txt"), &json!(true)));
    end(served).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ends_that_are_no_success_have_their_reasons_and_a_limit_parks_the_agent() {
    let place = place(&(agent("one", "", "") + &agent("other", "", ""))).await;
    let served = place.serve().await;
    let talk = &served.talk;
    let session = talk.session().await.id;
    for (prompt, reason) in [
        ("EMPTY", "empty_turn"),
        ("REFUSE", "refused"),
        ("FAIL:400", "bad_request"),
        ("TEXT_ERROR:401", "auth_required"),
        ("FAIL:overflow", "context_overflow"),
    ] {
        let task = talk.submit_with(session, "one", prompt, 1).await;
        let (ended, _) = talk.finish(task.id).await;
        assert_eq!(ended.failure_reason.as_deref(), Some(reason), "{prompt}: {ended:?}");
    }
    let task = talk.submit(session, "one", "RECALL").await;
    let (anew, events) = talk.finish(task.id).await;
    assert!(
        !anew.output.as_deref().unwrap().contains("FAIL:overflow"),
        "a conversation that is too long was gone on with: {anew:?} ({})",
        notices(&events)
    );
    let limited = talk.submit(session, "one", "FAIL:429@3x1\nSAY: later").await;
    let mut parked = false;
    let until_parked = tokio::time::Instant::now() + PATIENCE;
    while !parked && tokio::time::Instant::now() < until_parked {
        let one: Vec<Value> = talk.get("/api/agents").await;
        parked = one.iter().any(|agent| agent["name"] == "one" && !agent["parked_until"].is_null());
    }
    assert!(parked, "the agent was not seen parked");
    let (ended, _) = talk.finish(limited.id).await;
    assert_eq!((ended.status.as_str(), ended.attempt), ("completed", 2), "{ended:?}");
    end(served).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_catalogue_is_told_by_the_agent_itself() {
    let folder = tempfile::tempdir().unwrap();
    let (counted, starts) = (folder.path().join("counted"), folder.path().join("starts"));
    let script = format!("#!/bin/sh\necho start >> {starts:?}\nexec {:?} \"$@\"\n", fixture_agent());
    fs::write(&counted, script).unwrap();
    fs::set_permissions(&counted, fs::Permissions::from_mode(0o755)).unwrap();
    let settings = agent_at(&counted, "one", "", "") + &agent("broken", "exit=9", "");
    let place = place(&settings).await;
    let served = place.serve().await;
    let one: Value = served.talk.get("/api/agents/one").await;
    let ids =
        |list: &Value| list.as_array().unwrap().iter().map(|offer| offer["id"].clone()).collect::<Vec<_>>();
    assert!(ids(&one["catalogue"]["models"]).contains(&json!("big")), "{one}");
    assert!(ids(&one["catalogue"]["modes"]).contains(&json!("plan")), "{one}");
    assert!(!one["catalogue"]["thinking"].as_array().unwrap().is_empty(), "{one}");
    assert!(!one["catalogue"]["commands"].as_array().unwrap().is_empty(), "{one}");
    let before = fs::read_to_string(&starts).unwrap();
    let again: Value = served.talk.get("/api/agents/one").await;
    assert_eq!(again["catalogue"], one["catalogue"]);
    assert_eq!(fs::read_to_string(&starts).unwrap(), before, "whoever asks again starts an agent");
    let broken: Value = served.talk.get("/api/agents/broken").await;
    assert!(
        broken["catalogue"].is_null() && broken["catalogue_error"].as_str().unwrap().contains("exit code 9"),
        "{broken}"
    );
    let missing = served.talk.request(reqwest::Method::GET, "/api/agents/nobody").send().await.unwrap();
    assert_eq!(missing.status(), 404);
    // What was opened to ask is closed again.
    until("no process is left of the question", PATIENCE, || agents_of(&place).is_empty()).await;
    end(served).await;
}

/// Processes of agents, shims aside.
fn agents_of(place: &Place) -> Vec<u32> {
    let is_agent = |pid: &u32| {
        fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|line| {
            line.split('\0').next().is_some_and(|program| program.ends_with("fixture_agent"))
        })
    };
    marked_processes(&place.mark()).into_iter().filter(is_agent).collect()
}

fn open_files(pid: u32) -> BTreeMap<String, usize> {
    let mut kinds = BTreeMap::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fd")).unwrap().filter_map(Result::ok) {
        let Ok(target) = fs::read_link(entry.path()) else { continue };
        let kind = target.to_string_lossy().split(":[").next().unwrap_or_default().to_owned();
        if kind != "socket" {
            *kinds.entry(kind).or_insert(0) += 1;
        }
    }
    kinds
}

async fn open_tasks(sql: &tokio_postgres::Client) -> Vec<String> {
    let open = "SELECT format('%s %s attempt %s failures %s %s lane %s due %s', t.id, t.status, t.attempt, t.failures,
                              t.failure_reason, l.state, l.due - clock_timestamp())
                FROM agentpool.tasks t JOIN agentpool.lanes l ON l.head_task = t.id WHERE t.finished_at IS NULL";
    sql.query(open, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
}

/// 200 random SIGKILLs and SIGSTOPs of agents at work: no process and no descriptor is left, no task is lost, none ends twice.
#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_kills_of_agents_lose_nothing_and_leave_nothing() {
    const KILLS: usize = 200;
    let settings = "hands = 12\n".to_owned() + &agent("one", "", "stall_secs = 15");
    let place = place(&settings).await;
    let served = place.serve().await;
    let talk = &served.talk;
    let mut sessions = Vec::new();
    for _ in 0..64 {
        sessions.push(talk.session().await.id);
    }
    let (mut random, mut killed, mut tasks) = (StdRng::seed_from_u64(7), 0, Vec::new());
    let sql = talk.sql().await;
    let left = "SELECT count(*) FROM agentpool.tasks WHERE finished_at IS NULL";
    while killed < KILLS {
        // A lane whose agent was killed backs off: the others go on.
        let open: i64 = sql.query_one(left, &[]).await.unwrap().get(0);
        if open < 128 {
            for session in &sessions {
                let prompt = format!("SLOW:{}\nSAY: end", random.random_range(1..20));
                tasks.push(talk.submit_with(*session, "one", &prompt, 100).await.id);
            }
        }
        tokio::time::sleep(Duration::from_millis(random.random_range(5..60))).await;
        let agents = agents_of(&place);
        let Some(pid) = agents.get(random.random_range(0..agents.len().max(1))) else { continue };
        let signal = if random.random_bool(0.95) { Signal::SIGKILL } else { Signal::SIGSTOP };
        killed += usize::from(kill(Pid::from_raw(pid.cast_signed()), signal).is_ok());
    }
    // A stopped agent holds up its lane until the stall watch ends its turn, and a task that lost its agent backs off.
    let until_ended = tokio::time::Instant::now() + Duration::from_secs(300);
    loop {
        let row = sql.query_one(left, &[]).await.unwrap();
        if row.get::<_, i64>(0) == 0 {
            break;
        }
        assert!(tokio::time::Instant::now() < until_ended, "{row:?} are left: {:?}", open_tasks(&sql).await);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    for task in &tasks {
        let (ended, events) = talk.finish(*task).await;
        assert_eq!(ended.status, "completed", "{ended:?}");
        let ends = events
            .iter()
            .filter(|event| event.kind == "turn_ended" && event.content.as_deref() == Some("completed"));
        assert_eq!(ends.count(), 1, "{task} completed more than once");
        assert!(ended.output.as_deref().is_some_and(|output| output.ends_with("end")), "{ended:?}");
    }
    println!("{killed} kills, {} tasks", tasks.len());
    for session in &sessions {
        let _: Value = talk
            .post(&format!("/api/sessions/{session}/close"), &json!({"force": true}), reqwest::StatusCode::OK)
            .await;
    }
    until("the closed sessions' agents are gone", PATIENCE, || agents_of(&place).is_empty()).await;
    until("no more open files than a node needs", PATIENCE, || {
        open_files(served.pid()).values().sum::<usize>() <= 40
    })
    .await;
    end(served).await;
    place.nothing_is_left();
}
