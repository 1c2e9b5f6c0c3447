//! What runs beside the dispatcher for as long as the node does: bridges, sweeps, upkeep, the API's server. Each ends with the token
//! it is given.

use crate::domain::ids::{NodeId, SessionId};
use crate::http::{Api, Feed, FeedWake, Tls};
use crate::pool::AgentPool;
use crate::shutdown::Shutdown;
use crate::store::Store;
use crate::store::events::EventRow;
use crate::store::listener::Hint;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;

/// How often idle slots are looked at. What grows, grows in a turn, which wakes nobody: hence not less often.
const SWEEP_EVERY: Duration = Duration::from_secs(10);
/// How often partitions are made ahead, the node's row is touched and what was counted is summed up.
const UPKEEP_EVERY: Duration = Duration::from_secs(60);
/// Rounds of upkeep between two looks for old events: an hour.
const OLD_EVENTS_EVERY: u64 = 60;
/// What open requests get at the end.
const HTTP_GRACE: Duration = Duration::from_secs(1);
/// And when everything is to end at once.
const HTTP_HURRIED_GRACE: Duration = Duration::from_millis(200);

pub(super) async fn until(stop: CancellationToken, work: impl Future<Output = ()>) {
    tokio::select! {
        () = stop.cancelled() => {}
        () = work => {}
    }
}

/// As [`until`], but `work` gets so long after the token to end by itself.
pub(super) async fn until_after(stop: CancellationToken, grace: Duration, work: impl Future<Output = ()>) {
    let late = async {
        stop.cancelled().await;
        tokio::time::sleep(grace).await;
    };
    tokio::select! {
        () = late => tracing::warn!("the last events could not be written in time"),
        () = work => {}
    }
}

/// What this node appends to the event log goes to its readers without a question to the database.
pub(super) async fn feed_rows(mut appended: broadcast::Receiver<Arc<[EventRow]>>, feed: Feed) {
    loop {
        match appended.recv().await {
            Ok(rows) => feed.keep(&rows),
            Err(broadcast::error::RecvError::Lagged(_)) => feed.wake(FeedWake::Any),
            Err(broadcast::error::RecvError::Closed) => return,
        }
    }
}

pub(super) async fn feed_ends(mut committed: broadcast::Receiver<SessionId>, feed: Feed) {
    loop {
        match committed.recv().await {
            Ok(session) => feed.wake(FeedWake::Session(session)),
            Err(broadcast::error::RecvError::Lagged(_)) => feed.wake(FeedWake::Any),
            Err(broadcast::error::RecvError::Closed) => return,
        }
    }
}

pub(super) async fn feed_hints(mut hints: broadcast::Receiver<Hint>, me: NodeId, feed: Feed) {
    loop {
        match hints.recv().await {
            Ok(Hint::SessionEvents(node)) if node == me.0 => {}
            Ok(Hint::SessionEvents(_) | Hint::Reconnected) | Err(broadcast::error::RecvError::Lagged(_)) => {
                feed.wake(FeedWake::Any)
            }
            Ok(Hint::TasksNew | Hint::TasksCancel | Hint::PermissionsAnswered) => {}
            Err(broadcast::error::RecvError::Closed) => return,
        }
    }
}

pub(super) async fn sweep(pool: AgentPool) {
    let mut every = tokio::time::interval(SWEEP_EVERY);
    loop {
        tokio::select! {
            _ = every.tick() => {}
            () = pool.given_back() => {}
        }
        pool.sweep().await;
    }
}

pub(super) async fn upkeep(store: Store, node: NodeId, events_days: u16) {
    let mut every = tokio::time::interval(UPKEEP_EVERY);
    for round in 0_u64.. {
        every.tick().await;
        if events_days > 0 && round.is_multiple_of(OLD_EVENTS_EVERY) {
            match store.drop_old_events(i32::from(events_days)).await {
                Ok(0) => {}
                Ok(weeks) => tracing::info!(weeks, "events past their days were taken out"),
                Err(error) => tracing::debug!(%error, "old events stay for another hour"),
            }
        }
        crate::telemetry::counted().run_upkeep();
        if let Err(error) = store.make_partitions().await {
            tracing::warn!(%error, "partitions were not made ahead; there are two weeks left at least");
        }
        if let Err(error) = store.forget_old_keys().await {
            tracing::warn!(%error, "idempotency keys of last week were not forgotten");
        }
        if let Err(error) = store.node_seen(node.0).await {
            tracing::debug!(%error, "the node's row was not touched");
        }
    }
}

pub(super) async fn serve_http(
    socket: tokio::net::TcpListener,
    tls: Option<Tls>,
    api: Api,
    closing: CancellationToken,
    shutdown: Shutdown,
) {
    let serving = crate::http::serve(socket, tls, api);
    let bounded = async {
        closing.cancelled().await;
        tokio::select! {
            () = tokio::time::sleep(HTTP_GRACE) => {}
            () = shutdown.killed() => tokio::time::sleep(HTTP_HURRIED_GRACE).await,
        }
    };
    tokio::select! {
        () = serving => {}
        () = bounded => {}
    }
}
