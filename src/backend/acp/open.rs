//! A conversation to prompt: the live one, else resumed, else loaded, else new. Says which it was; tells nothing again, whoever
//! asks does that.

use super::conversation::Conversation;
use super::life::{CLOSE_DEADLINE, Life};
use super::offers::Told;
use super::process::{CallError, Process};
use super::roster::Live;
use super::settings::Base;
use super::unclaimed::Unclaimed;
use super::{Patience, ending};
use crate::backend::{BackendError, EnsureSession, SessionOrigin};
use crate::domain::mcp::{McpServer, McpTransport};
use agent_client_protocol::ErrorCode;
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;

/// Opens the conversation that `opts` wants.
///
/// # Errors
/// When there is no process, or it refuses a new conversation.
///
/// # Cancel safety
/// May be dropped: a process that was started for it is ended.
pub(super) async fn open(
    life: &Arc<Life>,
    opts: &EnsureSession,
) -> Result<(Live, SessionOrigin), BackendError> {
    if life.is_over() {
        return Err(super::life::disposed());
    }
    let wanted = opts.resume.as_deref().filter(|id| !life.is_closed(id));
    if let Some(live) = wanted.and_then(|id| life.live(id)) {
        return Ok((live, SessionOrigin::Reused));
    }
    if opts.resume.is_none()
        && let Some(live) = life.ahead().take(&opts.worktree).await
    {
        return Ok((live, SessionOrigin::New));
    }
    let process = life.process().await?;
    if let Some(id) = wanted
        && let Some(conversation) = again(life, process.process(), id, &opts.worktree).await?
    {
        return Ok((keep(life, process, conversation), SessionOrigin::Resumed));
    }
    let origin = if opts.resume.is_some() { SessionOrigin::NewInsteadOfResumed } else { SessionOrigin::New };
    Ok((begin(life, process, &opts.worktree).await?, origin))
}

/// A new conversation in a process.
///
/// # Errors
/// When the process ends or refuses it.
///
/// # Cancel safety
/// May be dropped: an own process is ended.
pub(super) async fn begin(
    life: &Arc<Life>,
    process: Unclaimed,
    worktree: &Path,
) -> Result<Live, BackendError> {
    let cwd = cwd_of(worktree)?;
    let opening = process.process().router.opening();
    let answer = process
        .process()
        .call("session/new", params(life, process.process(), cwd, None), Patience::OPEN)
        .await
        .map_err(|error| not_opened(life, error))?;
    let Some(id) = answer.get("sessionId").and_then(Value::as_str) else {
        return Err(BackendError::Incompatible("its answer to session/new names no session".to_owned()));
    };
    let conversation = process.process().router.claim(id, worktree.to_owned(), Told::of(&answer));
    // Not before: what was said meanwhile is the conversation's.
    drop(opening);
    Ok(keep(life, process, conversation))
}

/// Opens a conversation that nobody wants, and closes it: what the agent loads for its first one, a process that waits has
/// loaded by then. One that refuses is as ready as it gets.
pub(super) async fn warm_up(life: &Life, process: &Process) {
    let Ok(cwd) = cwd_of(&life.config().cwd) else { return };
    let opening = process.router.opening();
    let answer = process.call("session/new", params(life, process, cwd, None), Patience::OPEN).await;
    drop(opening);
    let id = answer.ok().and_then(|answer| Some(answer.get("sessionId")?.as_str()?.to_owned()));
    if let Some(id) = id
        && process.able.close
    {
        let closed = process.call("session/close", json!({"sessionId": id}), CLOSE_DEADLINE).await;
        tracing::debug!(agent = life.config().name, closed = closed.is_ok(), "a spare process is warm");
    }
}

/// A conversation that the agent has a record of; `None` when it cannot or does not go on with it.
async fn again(
    life: &Life,
    process: &Arc<Process>,
    id: &str,
    worktree: &Path,
) -> Result<Option<Arc<Conversation>>, BackendError> {
    let cwd = cwd_of(worktree)?;
    let ways = [("session/resume", process.able.resume), ("session/load", process.able.load)];
    for (method, _) in ways.into_iter().filter(|(_, able)| *able) {
        // Known before it is asked for: what is replayed is no event of any turn.
        let conversation = process.router.claim(id, worktree.to_owned(), Told::default());
        let answer = process.call(method, params(life, process, cwd, Some(id)), Patience::OPEN).await;
        let error = match answer {
            Ok(answer) => {
                let mut told = Told::of(&answer);
                let mut so_far = conversation.told();
                told.merge(std::mem::take(&mut *so_far));
                *so_far = told;
                drop(so_far);
                return Ok(Some(conversation));
            }
            Err(error) => error,
        };
        process.router.forget(id);
        let agent = &life.config().name;
        match error {
            CallError::Lost(reason) => return Err(BackendError::Lost(reason)),
            CallError::Late(_) => {
                return Err(BackendError::Lost(format!("{method} gave {error}")));
            }
            CallError::Refused(error) if error.code == ErrorCode::METHOD_NOT_FOUND => {
                tracing::warn!(agent, method, "the agent advertises what it does not have");
            }
            CallError::Refused(error) => {
                tracing::info!(agent, conversation = id, method, error = %super::process::describe(&error), "the agent does not go on with a conversation");
            }
        }
    }
    Ok(None)
}

fn keep(life: &Arc<Life>, process: Unclaimed, conversation: Arc<Conversation>) -> Live {
    let base = Arc::new(Base::of(&conversation.told()));
    let live = Live { process: process.claimed(), conversation, base, stale: Arc::default() };
    life.opened(live.clone());
    live
}

fn not_opened(life: &Life, error: CallError) -> BackendError {
    match error {
        CallError::Refused(error) => ending::of_refusal(&error),
        CallError::Late(_) => {
            BackendError::Spawn(format!("{} gave {error} to session/new", life.config().name))
        }
        // A process that dies before it has a conversation could not be started.
        CallError::Lost(reason) => BackendError::Spawn(reason),
    }
}

fn params(life: &Life, process: &Process, cwd: &str, id: Option<&str>) -> Value {
    let config = life.config();
    let servers: Vec<Value> =
        config.mcp_servers.iter().filter_map(|server| mcp(server, process, &config.name)).collect();
    let mut params = json!({"cwd": cwd, "mcpServers": servers});
    if let Some(id) = id {
        params["sessionId"] = json!(id);
    }
    if let Some(meta) = &config.session_meta {
        params["_meta"] = meta.clone();
    }
    params
}

/// A server in the protocol's words; none when the agent cannot speak to it.
fn mcp(server: &McpServer, process: &Process, agent: &str) -> Option<Value> {
    let pairs = |pairs: &[(String, String)]| -> Vec<Value> {
        pairs.iter().map(|(name, value)| json!({"name": name, "value": value})).collect()
    };
    match &server.transport {
        McpTransport::Stdio { command, args, env } => {
            Some(json!({"name": server.name, "command": command, "args": args, "env": pairs(env)}))
        }
        McpTransport::Http { url, headers } if process.able.mcp_http => {
            Some(json!({"type": "http", "name": server.name, "url": url, "headers": pairs(headers)}))
        }
        McpTransport::Sse { url, headers } if process.able.mcp_sse => {
            Some(json!({"type": "sse", "name": server.name, "url": url, "headers": pairs(headers)}))
        }
        McpTransport::Http { .. } | McpTransport::Sse { .. } => {
            tracing::warn!(
                agent,
                server = server.name,
                "the agent cannot speak to this MCP server; left out"
            );
            None
        }
    }
}

fn cwd_of(worktree: &Path) -> Result<&str, BackendError> {
    worktree.to_str().ok_or_else(|| {
        BackendError::turn(
            crate::domain::failure::FailureReason::ProjectUnusable,
            format!("the path {} is no UTF-8, and the protocol has no other", worktree.display()),
        )
    })
}
