//! What the agent may ask of us: permission, files of its worktree, terminals in it. Answers within the conversation that asks,
//! and refuses everything else.

use super::router::{Ask, Router};
use super::terminals::Terminals;
use crate::backend::confined::{self, Refused};
use agent_client_protocol::v1::ConnectionTo;
use agent_client_protocol::v1::schema::{
    CreateTerminalRequest, CreateTerminalResponse, KillTerminalRequest, KillTerminalResponse,
    ReadTextFileRequest, ReadTextFileResponse, ReleaseTerminalRequest, ReleaseTerminalResponse,
    RequestPermissionRequest, SessionId, TerminalOutputRequest, WaitForTerminalExitRequest,
    WaitForTerminalExitResponse, WriteTextFileRequest, WriteTextFileResponse,
};
use agent_client_protocol::{Agent, Client, ConnectTo, Error, on_receive_request};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

/// Runs the connection until `over`; hands it out when it stands.
pub(super) async fn serve(
    transport: impl ConnectTo<Client> + 'static,
    router: Arc<Router>,
    terminals: Terminals,
    ready: oneshot::Sender<ConnectionTo<Agent>>,
    over: CancellationToken,
) -> Result<(), Error> {
    let (for_asks, for_reads, for_writes, for_terminals) =
        (Arc::clone(&router), Arc::clone(&router), Arc::clone(&router), router);
    let (t1, t2, t3, t4, t5) =
        (terminals.clone(), terminals.clone(), terminals.clone(), terminals.clone(), terminals);
    // Handlers hold up the connection: each hands its work to a task of the connection and returns.
    Client
        .v1()
        .name("agentpool")
        .on_receive_request(
            async move |request: RequestPermissionRequest, responder, _| {
                for_asks.ask(Box::new(Ask { request, responder }));
                Ok(())
            },
            on_receive_request!(),
        )
        .on_receive_request(
            async move |request: ReadTextFileRequest, responder, connection: ConnectionTo<Agent>| {
                let worktree = worktree(&for_reads, &request.session_id);
                connection.spawn(async move { responder.respond_with_result(read(worktree?, request).await) })
            },
            on_receive_request!(),
        )
        .on_receive_request(
            async move |request: WriteTextFileRequest, responder, connection: ConnectionTo<Agent>| {
                let worktree = worktree(&for_writes, &request.session_id);
                connection
                    .spawn(async move { responder.respond_with_result(write(worktree?, request).await) })
            },
            on_receive_request!(),
        )
        .on_receive_request(
            async move |request: CreateTerminalRequest, responder, connection: ConnectionTo<Agent>| {
                let (terminals, worktree) = (t1.clone(), worktree(&for_terminals, &request.session_id));
                connection.spawn(async move {
                    let made = match worktree {
                        Ok(worktree) => terminals.create(&worktree, request).await,
                        Err(error) => Err(error),
                    };
                    responder.respond_with_result(made.map(CreateTerminalResponse::new))
                })
            },
            on_receive_request!(),
        )
        .on_receive_request(
            async move |request: TerminalOutputRequest, responder, _| {
                responder.respond_with_result(t2.output(&request.session_id, &request.terminal_id))
            },
            on_receive_request!(),
        )
        .on_receive_request(
            async move |request: WaitForTerminalExitRequest, responder, connection: ConnectionTo<Agent>| {
                let terminals = t3.clone();
                connection.spawn(async move {
                    let status = terminals.exit(&request.session_id, &request.terminal_id).await;
                    responder.respond_with_result(status.map(WaitForTerminalExitResponse::new))
                })
            },
            on_receive_request!(),
        )
        .on_receive_request(
            async move |request: KillTerminalRequest, responder, connection: ConnectionTo<Agent>| {
                let terminals = t4.clone();
                connection.spawn(async move {
                    let killed = terminals.kill(&request.session_id, &request.terminal_id).await;
                    responder.respond_with_result(killed.map(|()| KillTerminalResponse::new()))
                })
            },
            on_receive_request!(),
        )
        .on_receive_request(
            async move |request: ReleaseTerminalRequest, responder, connection: ConnectionTo<Agent>| {
                let terminals = t5.clone();
                connection.spawn(async move {
                    let released = terminals.release(&request.session_id, &request.terminal_id).await;
                    responder.respond_with_result(released.map(|()| ReleaseTerminalResponse::new()))
                })
            },
            on_receive_request!(),
        )
        .connect_with(transport, async move |connection: ConnectionTo<Agent>| {
            // Nobody waits for it any more when the start was given up; `over` follows.
            let _ = ready.send(connection);
            over.cancelled().await;
            Ok(())
        })
        .await
}

fn worktree(router: &Router, id: &SessionId) -> Result<PathBuf, Error> {
    let conversation = router.conversation(&id.0);
    let unknown = || Error::invalid_params().data(format!("session {} is not open", id.0));
    conversation.map(|conversation| conversation.worktree.clone()).ok_or_else(unknown)
}

async fn read(worktree: PathBuf, request: ReadTextFileRequest) -> Result<ReadTextFileResponse, Error> {
    let path = request.path;
    let text = blocking(move || confined::read(&worktree, &path)).await?;
    let Some(first) = request.line.or(request.limit.map(|_| 1)) else {
        return Ok(ReadTextFileResponse::new(text));
    };
    let skipped = usize::try_from(first.saturating_sub(1)).unwrap_or(usize::MAX);
    let lines = text.split_inclusive('\n').skip(skipped);
    let limit = request.limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
    Ok(ReadTextFileResponse::new(lines.take(limit).collect::<String>()))
}

async fn write(worktree: PathBuf, request: WriteTextFileRequest) -> Result<WriteTextFileResponse, Error> {
    let (path, content) = (request.path, request.content);
    blocking(move || confined::write(&worktree, Path::new(&path), &content)).await?;
    Ok(WriteTextFileResponse::new())
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Refused> + Send + 'static,
) -> Result<T, Error> {
    let done = tokio::task::spawn_blocking(work).await.map_err(Error::into_internal_error)?;
    done.map_err(|refused| match refused {
        Refused::Missing(_) => Error::new(-32002, refused.to_string()),
        Refused::Io { .. } => Error::internal_error().data(refused.to_string()),
        Refused::Outside(_) | Refused::NotAFile(_) | Refused::NotText { .. } => {
            Error::invalid_params().data(refused.to_string())
        }
    })
}
