//! Standing rules: what a person allowed or forbade is not asked again, holds from its making on, and only where it was meant.

use crate::support::cli::User;
use crate::support::node::{Talk, TestNode, scripted_agent, scripted_config};
use crate::support::queue::{Queue, agent, plain};
use agentpool::dispatch::task_source::{PermissionAsk, TaskSource};
use agentpool::domain::agent::AgentName;
use agentpool::domain::permission::{Access, PermissionDecision, PermissionKind, PermissionRequest};
use agentpool::domain::permission_rule::{RuleDecision, RuleText, StandingRule};
use agentpool::wire::api::{NewPermissionRule, PermissionRuleView, PermissionView, Problem, TaskView};
use agentpool::wire::event::EventView;
use agentpool::wire::permission::{AnswerBody, RuleReach};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use std::time::Duration;
use uuid::Uuid;

/// A node with agents `scripted`, which is allowed everything, and `asking` and `other`, which ask.
async fn node() -> TestNode {
    let folder = tempfile::tempdir().unwrap();
    let mut config = scripted_config(&folder).await;
    for name in ["asking", "other"] {
        let mut asking = scripted_agent("scripted");
        asking.permission = serde_json::from_value(json!({"policy": "ask"})).unwrap();
        config.agents.insert(AgentName::new(name).unwrap(), asking);
    }
    TestNode::start(config, vec![folder]).await
}

async fn make(
    talk: &Talk,
    session: Option<Uuid>,
    agent: Option<&str>,
    says: (&str, &str, &str),
) -> PermissionRuleView {
    let (decision, tool, pattern) = says;
    let rule = NewPermissionRule {
        session_id: session,
        agent: agent.map(str::to_owned),
        tool: tool.into(),
        pattern: Some(pattern.into()),
        decision: decision.into(),
        ..NewPermissionRule::default()
    };
    talk.post("/api/permission-rules", &rule, StatusCode::CREATED).await
}

async fn answer<T: serde::de::DeserializeOwned>(
    talk: &Talk,
    request: &PermissionView,
    body: &AnswerBody,
    status: StatusCode,
) -> T {
    talk.post(&format!("/api/permissions/{}/answer", request.id), body, status).await
}

async fn remove(talk: &Talk, rule: Uuid) -> StatusCode {
    talk.request(Method::DELETE, &format!("/api/permission-rules/{rule}")).send().await.unwrap().status()
}

/// The rows of a task's questions, oldest first: (title, status, who answered).
async fn rows(talk: &Talk, task: Uuid) -> Vec<(String, String, String)> {
    let rows: Vec<PermissionView> = talk.get("/api/permissions?all=true").await;
    let told = |row: PermissionView| (row.title, row.status, row.answered_by.unwrap_or_default());
    rows.into_iter().rev().filter(|row| row.task_id == task).map(told).collect()
}

/// What the stream says of questions: asked, and what was resolved.
fn questions(events: &[EventView]) -> Vec<String> {
    let said = |event: &EventView| {
        let input = event.input.as_ref()?;
        let resolved = input["answer"]["decision"].as_str();
        Some(resolved.map_or_else(|| "asked".to_owned(), str::to_owned))
    };
    events.iter().filter(|event| event.kind == "permission").filter_map(said).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_answers_for_a_person_by_the_command_and_the_stream_tells_both() {
    let node = node().await;
    let session = node.session().await.id;
    let rule = make(&node, Some(session), None, ("allow", "bash", "cargo test")).await;
    assert_eq!((rule.decision.as_str(), rule.created_by.as_str()), ("allow", "owner"));
    let task =
        node.submit(session, "asking", "ASK: bash: cargo test -p x\nASK: bash: cargo test; rm x").await;
    let request = node.one_pending_permission().await;
    assert_eq!(request.title, "bash: cargo test; rm x");
    let _: Value = answer(&node, &request, &AnswerBody::Deny { message: None }, StatusCode::OK).await;
    let (ended, events) = node.finish(task.id).await;
    assert_eq!(
        ended.output.as_deref(),
        Some("allowed: bash: cargo test -p x denied: bash: cargo test; rm x ")
    );
    assert_eq!(questions(&events), ["asked", "allow_once", "asked", "deny"]);
    let by = format!("rule {}", rule.id);
    let row = |title: &str, by: &str| (title.to_owned(), "answered".to_owned(), by.to_owned());
    let wanted = [row("bash: cargo test -p x", &by), row("bash: cargo test; rm x", "api")];
    assert_eq!(rows(&node, task.id).await, wanted);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_made_while_a_question_waits_answers_it_and_no_other() {
    let node = node().await;
    let (session, aside) = (node.session().await.id, node.session().await.id);
    let task = node.submit(session, "asking", "ASK: edit: src/a.rs\nSAY: went on").await;
    let open = node.one_pending_permission().await;
    make(&node, Some(aside), None, ("allow", "edit", "src/**")).await;
    make(&node, None, Some("other"), ("allow", "edit", "src/**")).await;
    make(&node, Some(session), Some("asking"), ("allow", "edit", "docs/**")).await;
    assert_eq!(node.one_pending_permission().await.id, open.id, "none of these is for it");
    let rule = make(&node, Some(session), Some("asking"), ("allow", "edit", "src/**")).await;
    let late: Problem = answer(&node, &open, &AnswerBody::AllowOnce, StatusCode::CONFLICT).await;
    assert_eq!(late.code, "conflict", "the rule was faster");
    let (ended, events) = node.finish(task.id).await;
    assert_eq!(ended.output.as_deref(), Some("allowed: edit: src/a.rs went on"));
    assert_eq!(questions(&events), ["asked", "allow_once"]);
    assert_eq!(rows(&node, task.id).await[0].2, format!("rule {}", rule.id));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_made_between_the_look_at_the_rules_and_the_question_answers_it_too() {
    let node = node().await;
    let session = node.session().await.id;
    // The rule is committed with the question's row: the look before it could not see it, and whoever makes a rule at that
    // moment cannot see the row.
    let between = "CREATE FUNCTION slip_in() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            INSERT INTO agentpool.permission_rules (workspace_id, session_id, tool, pattern, decision, created_by)
            SELECT workspace_id, id, 'bash', 'ls', 'deny', 'test' FROM agentpool.sessions WHERE id = NEW.session_id;
            RETURN NEW; END $$;
         CREATE TRIGGER slip_in BEFORE INSERT ON agentpool.permission_requests FOR EACH ROW EXECUTE FUNCTION slip_in()";
    node.sql().await.batch_execute(between).await.unwrap();
    let (ended, events) = {
        let task = node.submit(session, "asking", "ASK: bash: ls -l\nSAY: went on").await;
        node.finish(task.id).await
    };
    assert_eq!(ended.output.as_deref(), Some("denied: bash: ls -l went on"));
    assert_eq!(questions(&events), ["asked", "deny"]);
    let all = rows(&node, ended.id).await;
    assert!(all[0].1 == "answered" && all[0].2.starts_with("rule "), "{all:?}");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_rule_forbids_is_refused_under_every_policy_and_says_by_which() {
    let node = node().await;
    let session = node.session().await.id;
    make(&node, Some(session), None, ("allow", "bash", "git")).await;
    let rule = make(&node, None, Some("scripted"), ("deny", "bash", "git push")).await;
    make(&node, Some(session), None, ("deny", "bash", "git push")).await;
    let allowed = node.turn(session, "scripted", "ASK: bash: git status\nASK: bash: ls\nASK: may I").await;
    assert!(!allowed.output.as_deref().unwrap_or("").contains("denied"), "{allowed:?}");
    let refused = node.turn(session, "scripted", "ASK: bash: cd x && git push").await;
    assert!(refused.output.as_deref().unwrap_or("").contains("denied"), "{refused:?}");
    let asked = node.turn(session, "asking", "ASK: bash: git status\nASK: bash: git push").await;
    assert_eq!(asked.output.as_deref(), Some("allowed: bash: git status denied: bash: git push "));
    let all: Vec<PermissionView> = node.get("/api/permissions?all=true").await;
    let denied = all.iter().find(|row| row.task_id == refused.id).unwrap();
    let words = denied.answer.as_ref().unwrap()["message"].as_str().unwrap();
    assert!(words.contains("git push") && words.contains("rule "), "{words}");
    // Taken away, it forbids no more.
    assert_eq!(remove(&node, rule.id).await, StatusCode::NO_CONTENT);
    assert_eq!(remove(&node, rule.id).await, StatusCode::NOT_FOUND);
    let aside = node.session().await.id;
    let free = node.turn(aside, "scripted", "ASK: bash: git push").await;
    assert_eq!(free.output.as_deref(), Some("allowed: bash: git push "));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_for_always_makes_the_narrowest_rule_of_its_request_or_none() {
    let node = node().await;
    let (session, aside) = (node.session().await.id, node.session().await.id);
    let always = |reach| AnswerBody::AllowAlways { rule: Some(reach) };
    // What no rule could be sure of is refused, and stays open.
    let task = node.submit(session, "asking", "ASK: bash: ls | sh\nASK: bash: ls 'a b'").await;
    let request = node.one_pending_permission().await;
    let refused: Problem =
        answer(&node, &request, &always(RuleReach::Session), StatusCode::UNPROCESSABLE_ENTITY).await;
    assert!(refused.detail.contains("plain words"), "{refused:?}");
    assert_eq!(node.one_pending_permission().await.id, request.id);
    let _: Value = answer(&node, &request, &AnswerBody::AllowOnce, StatusCode::OK).await;
    node.until("SELECT count(*) = 2 FROM agentpool.permission_requests").await;
    let request = node.one_pending_permission().await;
    let answered: PermissionView = answer(&node, &request, &always(RuleReach::Session), StatusCode::OK).await;
    assert_eq!(answered.answer.unwrap()["rule"], "session");
    answer::<Problem>(&node, &request, &always(RuleReach::Agent), StatusCode::CONFLICT).await;
    let (_, events) = node.finish(task.id).await;
    assert_eq!(questions(&events), ["asked", "allow_once", "asked", "allow_once"], "the agent keeps asking");
    let rules: Vec<PermissionRuleView> = node.get("/api/permission-rules").await;
    assert_eq!(rules.len(), 1, "who lost makes no rule: {rules:?}");
    let rule = &rules[0];
    assert_eq!((rule.session_id, rule.agent.as_deref()), (Some(session), None));
    assert_eq!((rule.tool.as_str(), rule.pattern.as_deref(), rule.exact), ("bash", Some("ls 'a b'"), true));
    // It holds for every agent of the session, exactly, and nowhere else.
    let again = node.turn(session, "other", "ASK: bash: ls \"a b\"").await;
    assert_eq!(again.output.as_deref(), Some("allowed: bash: ls \"a b\" "));
    for (session, prompt) in [(session, "ASK: bash: ls 'a b' -R"), (aside, "ASK: bash: ls 'a b'")] {
        let task = node.submit(session, "asking", prompt).await;
        let request = node.one_pending_permission().await;
        assert_eq!(request.task_id, task.id);
        let _: Value = answer(&node, &request, &AnswerBody::AllowOnce, StatusCode::OK).await;
        node.finish(task.id).await;
    }
    // For the agent it holds in other sessions, at once.
    let tasks = [
        node.submit(session, "asking", "ASK: edit: a.txt").await,
        node.submit(aside, "asking", "ASK: edit: a.txt").await,
    ];
    node.until("SELECT count(*) = 2 FROM agentpool.permission_requests WHERE status = 'pending'").await;
    let open: Vec<PermissionView> = node.get("/api/permissions").await;
    let _: Value = answer(&node, &open[0], &always(RuleReach::Agent), StatusCode::OK).await;
    for task in tasks {
        assert_eq!(node.finish(task.id).await.0.output.as_deref(), Some("allowed: edit: a.txt "));
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_is_answered_by_no_rule() {
    let node = node().await;
    let session = node.session().await.id;
    for tool in ["question", "webfetch", "ask"] {
        let rule = json!({"session_id": session, "tool": tool, "decision": "allow"});
        node.post::<Value>("/api/permission-rules", &rule, StatusCode::CREATED).await;
    }
    let task: TaskView = node.submit(session, "asking", "QUESTION: which colour").await;
    let request = node.one_pending_permission().await;
    let with_rule = json!({"decision": "allow_always", "rule": "session"});
    let path = format!("/api/permissions/{}/answer", request.id);
    node.post::<Problem>(&path, &with_rule, StatusCode::UNPROCESSABLE_ENTITY).await;
    let red = AnswerBody::Answers { answers: vec![vec!["red".into()]] };
    let _: Value = answer(&node, &request, &red, StatusCode::OK).await;
    assert_eq!(node.finish(task.id).await.0.output.as_deref(), Some("answered: red "));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_are_listed_in_pages_and_one_made_twice_is_one() {
    let node = node().await;
    let session = node.session().await.id;
    let first = make(&node, Some(session), None, ("allow", "Bash", "ls")).await;
    assert_eq!(first.tool, "bash");
    assert_eq!(make(&node, Some(session), None, ("allow", "bash", "ls")).await.id, first.id);
    let second = make(&node, None, Some("asking"), ("deny", "bash", "ls")).await;
    let third = make(&node, Some(session), Some("asking"), ("allow", "edit", "src/**")).await;
    let mut next = Some("/api/permission-rules?limit=1".to_owned());
    let mut seen = Vec::new();
    while let Some(path) = next.take() {
        let page = node.request(Method::GET, &path).send().await.unwrap();
        let link = page.headers().get("link").map(|link| link.to_str().unwrap().to_owned());
        next = link.map(|link| link.split(['<', '>']).nth(1).unwrap().to_owned());
        seen.extend(page.json::<Vec<PermissionRuleView>>().await.unwrap().into_iter().map(|rule| rule.id));
    }
    assert_eq!(seen, [third.id, second.id, first.id]);
    let ids = async |query: String| {
        let rules: Vec<PermissionRuleView> = node.get(&format!("/api/permission-rules?{query}")).await;
        rules.into_iter().map(|rule| rule.id).collect::<Vec<_>>()
    };
    assert_eq!(ids(format!("session={session}")).await, [third.id, first.id]);
    assert_eq!(ids("agent=asking".into()).await, [third.id, second.id]);
    assert_eq!(ids(format!("agent=asking&session={session}")).await, [third.id]);
    // As many as one session and agent may have.
    let fill = "INSERT INTO agentpool.permission_rules (workspace_id, session_id, tool, pattern, decision, created_by)
                SELECT workspace_id, id, 'bash', 'x' || n, 'allow', 'test' FROM agentpool.sessions, generate_series(1, 499) n
                WHERE id = $1";
    node.sql().await.execute(fill, &[&session]).await.unwrap();
    let more = json!({"session_id": session, "tool": "bash", "pattern": "one more", "decision": "deny"});
    let full: Problem = node.post("/api/permission-rules", &more, StatusCode::CONFLICT).await;
    assert!(full.detail.contains("500 rules"), "{full:?}");
    let again = make(&node, Some(session), None, ("allow", "bash", "ls")).await;
    assert_eq!(again.id, first.id, "what is there already needs no room");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_are_made_listed_and_removed_by_the_command_line() {
    let node = node().await;
    let user = User::of(&node.url).with("AGENTPOOL_TOKEN", node.token.clone());
    let session = node.session().await.id.to_string();
    let task = node.submit(session.parse().unwrap(), "asking", "ASK: bash: cargo test").await;
    let request = node.one_pending_permission().await.id.to_string();
    let wrong = user.run(&["permission", "answer", &request, "allow", "--rule", "session"]).await.expect(2);
    assert!(wrong.stderr.contains("--rule goes with always"), "{wrong:?}");
    user.run(&["permission", "answer", &request, "always", "--rule", "session"]).await.expect(0);
    node.finish(task.id).await;
    let add = ["permission", "rule", "add", "--agent", "asking", "--tool", "bash", "git push", "--deny"];
    let made = user.run(&add).await.expect(0);
    assert!(made.stdout.contains("deny bash: git push") && made.stderr.contains("rule remove"), "{made:?}");
    let unsafe_one = ["permission", "rule", "add", "--session", &session, "--tool", "bash", "ls; rm"];
    let refused = user.run(&unsafe_one).await.expect(2);
    assert!(refused.stderr.contains("more than words"), "{refused:?}");
    let listed = user.run(&["permission", "rule", "list"]).await.expect(0).stdout;
    assert!(listed.contains("exactly cargo test") && listed.contains("git push"), "{listed}");
    let listed =
        user.run(&["permission", "rule", "list", "--session", &session, "--json"]).await.expect(0).json();
    let id = listed[0]["id"].as_str().unwrap();
    assert_eq!((listed.as_array().unwrap().len(), &listed[0]["exact"]), (1, &json!(true)));
    let gone = user.run(&["permission", "rule", "remove", id, "--json"]).await.expect(0).json();
    assert_eq!(gone["removed"], id);
    user.run(&["permission", "rule", "remove", id]).await.expect(4);
    user.run(&["permission", "rule", "add", "--tool", "bash", "ls"]).await.expect(2);
    node.stop().await;
}

fn asks(title: &str) -> PermissionAsk {
    let request = PermissionRequest {
        agent_request_id: "q".into(),
        kind: PermissionKind::Tool,
        access: Access::Unknown,
        title: title.into(),
        payload: json!({}),
    };
    PermissionAsk { request, answered: None, rule: None, deadline: Some(Duration::from_secs(60)) }
}

#[tokio::test]
async fn rules_of_another_workspace_session_or_agent_do_not_hold() {
    let queue = Queue::new().await;
    let node = queue.node().await;
    let (session, aside) = (queue.session().await, queue.session().await);
    queue.put(&plain(session, "x")).await;
    let task = node.take_one().await;
    let rules = format!(
        "INSERT INTO agentpool.workspaces (name) VALUES ('other');
         INSERT INTO agentpool.permission_rules (workspace_id, session_id, agent, tool, pattern, decision, created_by)
         SELECT s.workspace_id, r.session_id, r.agent, 'bash', r.pattern, r.decision, 'test'
         FROM agentpool.sessions s, (VALUES
             ('{session}'::uuid, NULL, 'in this session', 'allow'), (NULL, 'a', 'of this agent', 'deny'),
             ('{session}', 'a', 'of both', 'allow'), ('{aside}', NULL, 'aside', 'allow'), (NULL, 'b', 'of another', 'allow'),
             ('{session}', 'b', 'of another here', 'allow'), ('{session}', NULL, 'ls; rm', 'allow'),
             ('{session}', NULL, 'ls; rm', 'deny')
         ) AS r (session_id, agent, pattern, decision) WHERE s.id = '{session}';
         INSERT INTO agentpool.permission_rules (workspace_id, agent, tool, pattern, decision, created_by)
         SELECT id, 'a', 'bash', 'elsewhere', 'allow', 'test' FROM agentpool.workspaces WHERE name = 'other'"
    );
    queue.sql.batch_execute(&rules).await.unwrap();
    let rules = node.source.standing_rules(&task.lease, &agent("a")).await.unwrap();
    let mut told: Vec<_> =
        rules.iter().map(|rule| (rule.text().pattern.as_deref().unwrap(), rule.decision())).collect();
    told.sort_by_key(|(pattern, _)| *pattern);
    let (allow, deny) = (RuleDecision::Allow, RuleDecision::Deny);
    let wanted = [("in this session", allow), ("ls; rm", deny), ("of both", allow), ("of this agent", deny)];
    assert_eq!(told, wanted, "one written by hand that cannot be read forbids, and never allows");
}

#[tokio::test]
async fn of_a_person_and_a_rule_the_first_holds() {
    let queue = Queue::new().await;
    let node = queue.node().await;
    queue.put(&plain(queue.session().await, "x")).await;
    let task = node.take_one().await;
    let text = RuleText { tool: "bash".into(), pattern: Some("ls".into()), exact: false };
    let rule = StandingRule::new(Uuid::now_v7(), text, RuleDecision::Allow).unwrap();
    node.source.ask_permission(&task.lease, &agent("a"), &asks("bash: ls")).await.unwrap();
    for _ in 0..2 {
        let holds = node.source.answer_by_rule(&task.lease, "q", &rule).await.unwrap();
        assert_eq!(holds, PermissionDecision::AllowOnce, "a lost reply is asked for again");
    }
    let id: Uuid = queue.one("SELECT id FROM agentpool.permission_requests").await;
    let no = json!({"decision": "deny"});
    assert!(!queue.store.answer_permission(id, &no, "late").await.unwrap());
    let by: String = queue.one("SELECT answered_by FROM agentpool.permission_requests").await;
    assert_eq!(by, format!("rule {}", rule.id));
    let reset = "UPDATE agentpool.permission_requests SET status = 'pending', answer = NULL, answered_by = NULL, delivered_at = NULL";
    queue.sql.batch_execute(reset).await.unwrap();
    assert!(queue.store.answer_permission(id, &no, "api").await.unwrap());
    let holds = node.source.answer_by_rule(&task.lease, "q", &rule).await.unwrap();
    assert_eq!(holds, PermissionDecision::Deny { message: None }, "a person was faster");
}
