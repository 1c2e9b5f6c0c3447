//! The API's server: connections are bounded in number and in the time that they may say nothing. axum's own server has no such
//! bounds: hyper's are inert without a timer, which it does not install.

use super::auth::Peer;
use super::{Api, router};
use axum::body::Body;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tower::ServiceExt;

/// How long a head may take, and a connection may wait for its next request.
const HEAD_DEADLINE: Duration = Duration::from_secs(30);
/// Open connections; a stream holds one. Who comes then waits in the system's queue.
const CONNECTIONS_MAX: usize = 4096;
/// After an accept that failed: most often no descriptor is free, and to try at once would only spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// Serves until it is dropped, or until `closing` and then as long as requests are open.
///
/// # Cancel safety
/// May be dropped at any point: connections are cut.
pub async fn serve(socket: TcpListener, api: Api) {
    let (closing, router) = (api.closing.clone(), router(api));
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
        let router = router.clone();
        let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(Peer(peer.ip()));
            router.clone().oneshot(request)
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_DEADLINE)
            .serve_connection(TokioIo::new(stream), service);
        let connection = graceful.watch(connection);
        connections.spawn(async move {
            if let Err(error) = connection.await {
                tracing::trace!(%error, "a connection broke");
            }
            drop(room);
        });
    }
    drop(socket);
    graceful.shutdown().await;
}
