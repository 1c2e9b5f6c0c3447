//! `agentpool task explain ID`: a task's story in the order of time, from what the API tells. Shows, changes nothing.

use super::client::Client;
use super::task::{self, OneTask};
use super::{CliError, Exit, output};
use crate::wire::api::{AttemptView, ChangeView, PermissionView, TaskView};
use crate::wire::event::EventView;
use chrono::{DateTime, Utc};
use serde::Serialize;

/// Events that one request brings.
const PAGE: usize = 500;
/// What an agent says and does is told by `agentpool tail`; these tell how it went.
const TOLD: [&str; 5] = ["turn_started", "turn_ended", "notice", "retry", "permission"];

/// One moment of the story.
#[derive(Serialize)]
struct Moment {
    at: DateTime<Utc>,
    what: String,
    detail: String,
}

pub(super) async fn run(args: OneTask) -> Result<Exit, CliError> {
    let client = Client::new(&args.client)?;
    let task: TaskView = client.get(&format!("/api/tasks/{}", args.id)).await?;
    let mut story = vec![moment(task.created_at, "put in", format!("for {}", task.agent))];
    if let Some(at) = task.run_at.filter(|_| task.attempt == 0) {
        story.push(moment(at, "not before", String::new()));
    }
    story.extend(events(&client, &task).await?.into_iter().map(|event| told(event, &task.attempts)));
    let session = Some(task.session_id.to_string());
    let query = [("all", Some("true".to_owned())), ("session", session), ("limit", Some(PAGE.to_string()))];
    let asked: Vec<PermissionView> = client.get_with("/api/permissions", &query).await?;
    let answered = asked.into_iter().filter(|asked| asked.task_id == task.id && asked.status != "pending");
    story.extend(answered.map(|asked| {
        let by = asked.answered_by.as_deref().map(|by| format!(" by {by}")).unwrap_or_default();
        moment(asked.created_at, &format!("{}{by}", asked.status), asked.title)
    }));
    if let Some(at) = task.cancel_requested_at {
        story.push(moment(at, "cancel asked", String::new()));
    }
    if let Some(at) = task.finished_at {
        let detail = task.error.clone().unwrap_or_default();
        story.push(moment(at, &task.status, detail));
    }
    story.sort_by_key(|moment| moment.at);
    let changes: Vec<ChangeView> = client.get(&format!("/api/sessions/{}/changes", task.session_id)).await?;
    let changes = changes.iter().filter(|change| change.task_id == Some(task.id)).count();
    if args.json {
        output::json(&serde_json::json!({"task": task, "story": story, "changes": changes}))?;
        return Ok(Exit::Done);
    }
    let tries = format!("{} (failures {} of {})", task.attempt, task.failures, task.max_failures);
    output::details(&[
        ("task", Some(task.id.to_string())),
        ("status", Some(task.status.clone())),
        ("waits", task::waits(&task)),
        ("attempts", Some(tries)),
        ("reason", task.failure_reason.clone()),
        ("files changed", Some(changes.to_string())),
    ])?;
    output::line("")?;
    let row = |moment: Moment| vec![output::moment(moment.at), moment.what, moment.detail];
    output::table("", &["WHEN", "WHAT", ""], story.into_iter().map(row).collect())?;
    Ok(Exit::Done)
}

/// Where an attempt ran, as far as it is known.
fn place(attempt: &AttemptView) -> String {
    let node = attempt.node_name.clone().or_else(|| attempt.node_id.map(|id| id.to_string()));
    let node = node.map(|node| format!(", on {node}")).unwrap_or_default();
    let fence = attempt.fence.map(|fence| format!(", fence {fence}")).unwrap_or_default();
    format!("{node}{fence}")
}

fn moment(at: DateTime<Utc>, what: &str, detail: String) -> Moment {
    Moment { at, what: what.to_owned(), detail }
}

/// Those that tell how it went.
async fn events(client: &Client, task: &TaskView) -> Result<Vec<EventView>, CliError> {
    let mut told = Vec::new();
    let mut since = 0;
    loop {
        let query = [("since", Some(since.to_string())), ("limit", Some(PAGE.to_string()))];
        let page: Vec<EventView> =
            client.get_with(&format!("/api/tasks/{}/messages", task.id), &query).await?;
        let full = page.len() == PAGE;
        since = page.last().map_or(since, |event| event.pos);
        told.extend(page.into_iter().filter(|event| TOLD.contains(&event.kind.as_str())));
        if !full {
            return Ok(told);
        }
    }
}

fn told(event: EventView, attempts: &[AttemptView]) -> Moment {
    let input = event.input.unwrap_or_default();
    let word = |name: &str| match &input[name] {
        serde_json::Value::String(word) => word.clone(),
        serde_json::Value::Null => String::new(),
        other => other.to_string(),
    };
    let content = event.content.unwrap_or_default();
    let (what, detail) = match event.kind.as_str() {
        "turn_started" => {
            let number = input["attempt"].as_i64();
            let attempt = attempts.iter().find(|attempt| number.is_some() && attempt.number == number);
            let place = attempt.map(place).unwrap_or_default();
            let detail = format!("{} conversation{place}", word("conversation"));
            (format!("attempt {} begins", word("attempt")), detail)
        }
        "turn_ended" => (format!("attempt ends: {content}"), word("reason")),
        "permission" if input.get("status").is_some() => {
            (format!("the question is {content}"), String::new())
        }
        "permission" => (format!("asks ({})", word("kind")), content),
        other => (other.to_owned(), content),
    };
    Moment { at: event.created_at, what, detail }
}
