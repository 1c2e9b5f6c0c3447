//! The API's server: connections are bounded in number and in the time that they may say nothing. axum's own server has no such
//! bounds: hyper's are inert without a timer, which it does not install.

use super::auth::Peer;
use super::tls::Tls;
use super::{Api, router};
use axum::Router;
use axum::body::Body;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tower::ServiceExt;

/// How long a head may take, and a connection may wait for its next request.
const HEAD_DEADLINE: Duration = Duration::from_secs(30);
/// Open connections; a stream holds one. Who comes then waits in the system's queue.
const CONNECTIONS_MAX: usize = 4096;
/// After an accept that failed: most often no descriptor is free, and to try at once would only spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// Serves, in the clear where there is no `tls`, until it is dropped, or until `closing` and then as long as requests are open.
///
/// # Cancel safety
/// May be dropped at any point: connections are cut.
pub async fn serve(socket: TcpListener, tls: Option<Tls>, api: Api) {
    let (closing, steps, router) = (api.closing.clone(), api.steps.clone(), router(api));
    let open = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let graceful = GracefulShutdown::new();
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let room = Arc::clone(&open).acquire_owned();
        let accepted = tokio::select! {
            () = closing.cancelled() => break,
            Some(_) = connections.join_next() => continue,
            accepted = async {
                let room = room.await;
                (socket.accept().await, room)
            } => accepted,
        };
        let ((stream, peer), room) = match accepted {
            (Ok(accepted), Ok(room)) => (accepted, room),
            (Err(error), _) => {
                tracing::warn!(%error, "a connection was not accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
            // Nobody closes it.
            (_, Err(_)) => break,
        };
        // Small events go out at once.
        let _ = stream.set_nodelay(true);
        let (router, watcher) = (router.clone(), graceful.watcher());
        let acceptor = tls.as_ref().map(|tls| tls.acceptor());
        connections.spawn(async move {
            match acceptor {
                None => talk(stream, router, peer.ip(), watcher).await,
                // A handshake has the time of a head.
                Some(acceptor) => match timeout(HEAD_DEADLINE, acceptor.accept(stream)).await {
                    Ok(Ok(stream)) => talk(stream, router, peer.ip(), watcher).await,
                    Ok(Err(error)) => tracing::trace!(%error, "a handshake failed"),
                    Err(_) => tracing::trace!("a handshake took too long"),
                },
            }
            drop(room);
        });
    }
    drop(socket);
    graceful.shutdown().await;
    steps.close();
    steps.wait().await;
}

async fn talk<S>(stream: S, router: Router, peer: IpAddr, watcher: Watcher)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(Peer(peer));
        router.clone().oneshot(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_DEADLINE)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = watcher.watch(connection).await {
        tracing::trace!(%error, "a connection broke");
    }
}
