//! What must not get out: secrets of our own environment, and the way into an agent's server. Rows S01 and S03.

use crate::support::cluster::connection_string;
use crate::support::cluster::fresh_database;
use crate::support::leaks::{marked_processes, until};
use crate::support::node::{PATIENCE, shared_opencode};
use crate::support::opencode::{model_config, opencode_program};
use crate::support::serve::Place;
use agentpool::scripted_model::ScriptedModel;
use agentpool::wire::api::SessionView;
use agentpool::wire::event::EventView;
use nix::sys::signal::Signal;
use reqwest::{Method, StatusCode};
use std::fs;
use tokio_postgres::Client;

/// A word that is in every secret and nowhere else.
const CANARY: &str = "canary-5b1f0c";

#[tokio::test(flavor = "multi_thread")]
async fn s01_opencode_is_closed_on_every_route_to_those_without_its_password_and_listens_on_loopback_alone() {
    let (node, _) = shared_opencode().await;
    let session = node.session().await;
    node.turn(session.id, "opencode", "SAY: up").await;
    let session: SessionView = node.get(&format!("/api/sessions/{}", session.id)).await;
    let port = session.conversations[0].server_port.expect("a shared server");
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let routes = routes_in_use();
    assert!(routes.len() > 15, "{routes:?}");
    for route in routes {
        let url = format!("http://127.0.0.1:{port}{route}?directory=%2Ftmp");
        for method in [Method::GET, Method::POST, Method::PATCH] {
            let naked = http.request(method.clone(), &url);
            let wrong = http.request(method.clone(), &url).basic_auth("opencode", Some("0".repeat(64)));
            let in_the_url = http.request(method.clone(), format!("{url}&auth_token=opencode%3Awrong"));
            for request in [naked, wrong, in_the_url] {
                let answer =
                    request.header("content-type", "application/json").body("{}").send().await.unwrap();
                assert_eq!(answer.status(), StatusCode::UNAUTHORIZED, "{method} {route}");
            }
        }
    }
    let wanted = format!(":{port:04X}");
    let listening = |file: &str| -> Vec<String> {
        let table = fs::read_to_string(file).unwrap_or_default();
        let rows = table.lines().map(|row| row.split_whitespace().collect::<Vec<_>>());
        let listening = rows.filter(|row| row.get(3) == Some(&"0A") && row[1].ends_with(&wanted));
        listening.map(|row| row[1].to_owned()).collect()
    };
    assert_eq!(listening("/proc/net/tcp"), [format!("0100007F{wanted}")]);
    assert!(listening("/proc/net/tcp6").is_empty());
}

/// Every path that our client has in it, with something in the place of what varies.
fn routes_in_use() -> Vec<String> {
    let source = include_str!("../../src/backend/opencode/client.rs");
    let literals = source.split('"').skip(1).step_by(2).filter(|literal| literal.starts_with('/'));
    let filled = |path: &str| -> String {
        let pieces = path.split('/').map(|piece| if piece.starts_with('{') { "x" } else { piece });
        pieces.collect::<Vec<_>>().join("/")
    };
    let answers = ["/permission/x/reply", "/question/x/reply", "/question/x/reject"].map(str::to_owned);
    literals.map(filled).filter(|path| path != "/x").chain(answers).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn s03_no_secret_of_our_environment_reaches_a_child_a_log_line_a_row_or_an_event() {
    let (model, database) = (ScriptedModel::start(0).unwrap(), fresh_database().await);
    let mut place = Place::new(&opencode_alone(&model, "log = \"debug\"").await);
    place.database = database.config.clone();
    let url = format!("{} password={CANARY}-url", connection_string(&database.config));
    place.variables.push(("DATABASE_URL".into(), url));
    for name in [
        "AGENTPOOL_TOKEN",
        "ANTHROPIC_API_KEY",
        "OPENAI_API_KEY",
        "AWS_SECRET_ACCESS_KEY",
        "GITHUB_TOKEN",
        "GIT_SSH_COMMAND",
        "GIT_ASKPASS",
        "GIT_DIR",
        "LD_LIBRARY_PATH",
        "NODE_OPTIONS",
        "PGPASSWORD",
        "SSH_AUTH_SOCK",
        "OPENCODE_SERVER_PASSWORD",
        "SOMETHING_PRIVATE",
    ] {
        place.variables.push((name.into(), format!("{CANARY}-{name}")));
    }
    let served = place.serve().await;
    let session = served.talk.session().await;
    let asks = "TOOL:bash env; echo marker-of-env; sleep 600";
    let task = served.talk.submit(session.id, "opencode", asks).await;
    let running = |event: &EventView| event.kind == "tool_update" && format!("{event:?}").contains("running");
    served.talk.follow(task.id, running).await;

    let mark = place.mark();
    let is_tool = |pid: &u32| {
        fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.starts_with(b"sleep\x00600"))
    };
    until("the tool runs", PATIENCE, || marked_processes(&mark).iter().any(is_tool)).await;
    for pid in marked_processes(&mark) {
        for file in ["environ", "cmdline"] {
            let bytes = fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
            assert!(!holds(&bytes), "{file} of {pid}: {}", String::from_utf8_lossy(&bytes));
        }
    }
    let _: serde_json::Value =
        served.talk.post(&format!("/api/tasks/{}/cancel", task.id), &(), StatusCode::ACCEPTED).await;
    served.talk.finish(task.id).await;
    let told = served.talk.submit(session.id, "opencode", "TOOL:bash env").await;
    let (told, events) = served.talk.finish(told.id).await;
    assert_eq!(told.status, "completed", "{told:?}");
    assert!(format!("{events:?}").contains("AGENTPOOL_MARK"), "the tool told its environment: {events:?}");
    let rows = dump(&served.talk.sql().await).await;
    assert!(rows.contains("AGENTPOOL_MARK") && !holds(rows.as_bytes()), "{}", around(&rows));
    assert!(
        rows.contains("OPENCODE_SERVER_PASSWORD=[redacted]"),
        "the agent printed the way into its server"
    );

    served.signal(Signal::SIGTERM);
    let (status, said) = served.ended().await;
    assert_eq!(status.code(), Some(0), "{said:#?}");
    assert!(said.iter().any(|line| line.contains("DEBUG")), "the log says much: {said:#?}");
    let leaks: Vec<_> = said.iter().filter(|line| holds(line.as_bytes())).collect();
    assert!(leaks.is_empty(), "{leaks:#?}");
    place.nothing_is_left();
}

/// The turn is whole in opencode's own store when its node dies, and no row says so.
#[tokio::test(flavor = "multi_thread")]
async fn f05_a_turn_that_completed_while_its_node_died_is_finished_from_opencodes_store_and_not_prompted_again()
 {
    let (model, database) = (ScriptedModel::start(0).unwrap(), fresh_database().await);
    let mut place = Place::new(&opencode_alone(&model, "").await);
    place.database = database.config.clone();
    place.variables.push(("DATABASE_URL".into(), connection_string(&database.config)));
    let served = place.serve().await;
    let session = served.talk.session().await;
    let mut sql = served.talk.sql().await;
    let bars_the_result = sql.transaction().await.unwrap();
    bars_the_result.execute("LOCK TABLE agentpool.task_usage IN ACCESS EXCLUSIVE MODE", &[]).await.unwrap();
    let task = served.talk.submit(session.id, "opencode", "TOOL:write whole.txt done\nSAY: unheard").await;
    served.talk.follow(task.id, |event| event.kind == "turn_ended").await;
    served.signal(Signal::SIGKILL);
    served.ended().await;
    bars_the_result.rollback().await.unwrap();
    let asked = || model.requests().iter().filter(|request| !request.side).count();
    let before = asked();

    let served = place.serve().await;
    let (task, events) = served.talk.finish(task.id).await;
    assert_eq!((task.status.as_str(), task.failures), ("completed", 0), "{task:?}");
    assert!(task.output.as_deref().is_some_and(|output| output.contains("Done after 1 tool")), "{task:?}");
    assert!(
        events.iter().any(|event| event.kind == "notice" && format!("{event:?}").contains("had completed"))
    );
    assert_eq!(asked(), before, "the model was not asked again");
    served.signal(Signal::SIGTERM);
    assert_eq!(served.ended().await.0.code(), Some(0));
    place.nothing_is_left();
}

/// Settings of a program that has the real opencode and nothing else.
async fn opencode_alone(model: &ScriptedModel, settings: &str) -> String {
    let (program, config) = (opencode_program().await, model_config(&model.base_url()));
    format!(
        "{settings}\n[agents.opencode]\nbackend = \"opencode_server\"\ncommand = {program:?}\nhome = \"isolated\"\n\
         [agents.opencode.env]\nOPENCODE_DISABLE_MODELS_FETCH = \"1\"\nOPENCODE_CONFIG_CONTENT = '''{config}'''"
    )
}

fn holds(bytes: &[u8]) -> bool {
    bytes.windows(CANARY.len()).any(|window| window == CANARY.as_bytes())
}

fn around(text: &str) -> &str {
    let at = text.find(CANARY).unwrap_or(0);
    &text[text.floor_char_boundary(at.saturating_sub(200))..text.floor_char_boundary(at + 100)]
}

/// Every row of every table as text.
pub async fn dump(sql: &Client) -> String {
    let tables =
        "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables WHERE schemaname = 'agentpool'";
    let mut all = String::new();
    for table in sql.query(tables, &[]).await.unwrap() {
        let rows =
            format!("SELECT coalesce(string_agg(t::text, E'\\n'), '') FROM {} t", table.get::<_, &str>(0));
        all += sql.query_one(&rows, &[]).await.unwrap().get::<_, &str>(0);
    }
    all
}
