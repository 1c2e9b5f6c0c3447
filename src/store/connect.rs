//! How we connect: time limits on every statement, and on every silence. No TLS yet: a URL that demands it is refused with
//! an error by the driver.

use super::StoreError;
use super::silence::Watch;
use deadpool_postgres::{
    Connect, Hook, HookError, Manager, ManagerConfig, Pool, RecyclingMethod, Runtime, Timeouts,
};
use futures::FutureExt;
use futures::future::BoxFuture;
use std::error::Error;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinHandle;
use tokio_postgres::config::{Host, SslMode, SslNegotiation};
use tokio_postgres::tls::NoTlsStream;
use tokio_postgres::{Client, Config, Connection, NoTls, Socket};

/// How long a caller waits for a connection of a pool.
const WAIT: Duration = Duration::from_secs(5);
/// How long a connection may take to come about, answers of the server included: what accepts connections may still be deaf.
const CONNECT_DEADLINE: Duration = Duration::from_secs(10);
/// A connection that was last used longer ago than this is asked whether it still lives.
const REST: Duration = Duration::from_secs(5);
/// How long it may take to say so.
const PING_DEADLINE: Duration = Duration::from_secs(2);

/// How long the server may say nothing to a statement: longer than the 30 s after which it ends one itself.
pub(super) const SILENCE: Duration = Duration::from_secs(35);
/// The same for renewals. They wait 5 s for a lock at most, and a lease must outlive one that is lost (5 s after the last
/// good one), its silence, and the next connection.
pub(super) const RENEW_SILENCE: Duration = Duration::from_secs(6);

/// Limits for direct connections: a statement ends within 30 s, a lock is waited for 5 s (a third of a lease), and
/// a dead machine's connection (and its advisory lock) is gone after 19 s instead of two hours, and
/// an idle transaction is ended: one pinned xmin costs the queue a third of its speed within 20 s.
/// The queue's transactions rely on a new snapshot for each statement, whatever is the database's default.
const OPTIONS: &str = "-c statement_timeout=30s -c lock_timeout=5s -c idle_in_transaction_session_timeout=30s \
                       -c tcp_keepalives_idle=10 -c tcp_keepalives_interval=3 -c tcp_keepalives_count=3 \
                       -c default_transaction_isolation=read\\ committed -c application_name=agentpool";

pub(super) fn harden(mut config: Config) -> Config {
    let options = match config.get_options() {
        Some(own) => format!("{OPTIONS} {own}"),
        None => OPTIONS.to_owned(),
    };
    config
        .options(options)
        .connect_timeout(Duration::from_secs(5))
        .keepalives_idle(Duration::from_secs(10))
        .keepalives_interval(Duration::from_secs(3))
        .keepalives_retries(3)
        .tcp_user_timeout(Duration::from_secs(15));
    config
}

/// A connection outside of the pools; its owner drives it.
///
/// # Errors
/// [`StoreError`]; also when the other side accepts the connection and then says nothing.
pub(super) async fn connect(
    config: &Config,
) -> Result<(Client, Connection<Socket, NoTlsStream>), StoreError> {
    match tokio::time::timeout(CONNECT_DEADLINE, config.connect(NoTls)).await {
        Ok(connected) => Ok(connected?),
        Err(_) => {
            let words =
                format!("it accepts connections and says nothing within {} s", CONNECT_DEADLINE.as_secs());
            Err(StoreError::Unavailable(words.into()))
        }
    }
}

/// A pool whose connections fail after such a silence.
pub(super) fn pool(config: Config, size: usize, silence_max: Duration) -> Pool {
    let connect = Watching { watch: Watch { silence_max } };
    let manager =
        Manager::from_connect(config, connect, ManagerConfig { recycling_method: RecyclingMethod::Fast });
    Pool::builder(manager)
        .max_size(size)
        .runtime(Runtime::Tokio1)
        .timeouts(Timeouts { wait: Some(WAIT), create: Some(CONNECT_DEADLINE), recycle: Some(WAIT) })
        .pre_recycle(ask_rested())
        .build()
        .expect("a runtime is set, which is all that timeouts need")
}

/// Asks a connection that has rested for a while whether it lives: what died in the meantime (a firewall that forgot it, a
/// server that moved) must not cost a statement its whole time limit. After one that did not answer, those that have rested
/// since then are dropped unasked.
fn ask_rested() -> Hook {
    let silent_at = Arc::new(Mutex::new(None::<Instant>));
    Hook::async_fn(move |client, metrics| {
        let (rested, silent_at) = (metrics.last_used(), silent_at.clone());
        async move {
            if rested < REST {
                return Ok(());
            }
            let lock = || silent_at.lock().unwrap_or_else(PoisonError::into_inner);
            if lock().is_some_and(|at| at.elapsed() < rested) {
                return Err(HookError::message("it rested while another fell silent"));
            }
            match tokio::time::timeout(PING_DEADLINE, client.simple_query("")).await {
                Ok(Ok(_)) => Ok(()),
                Ok(Err(error)) => Err(HookError::Backend(error)),
                Err(_) => {
                    *lock() = Some(Instant::now());
                    Err(HookError::message("it fell silent"))
                }
            }
        }
        .boxed()
    })
}

/// Connects for a pool.
struct Watching {
    watch: Watch,
}

impl Connect for Watching {
    fn connect(
        &self,
        config: &Config,
    ) -> BoxFuture<'_, Result<(Client, JoinHandle<()>), tokio_postgres::Error>> {
        let (watch, mut config) = (self.watch, config.clone());
        async move {
            // A socket in the file system has no network that could lose it; and whoever demands TLS is to be refused.
            let watched = config.get_ssl_mode() != SslMode::Require
                && !config.get_hosts().is_empty()
                && config.get_hosts().iter().all(|host| matches!(host, Host::Tcp(_)));
            if watched {
                // "TLS" from the first byte on, by a connector that only watches.
                config.ssl_mode(SslMode::Require).ssl_negotiation(SslNegotiation::Direct);
                let (client, connection) = config.connect(watch).await?;
                Ok((client, driven(connection)))
            } else {
                let (client, connection) = config.connect(NoTls).await?;
                Ok((client, driven(connection)))
            }
        }
        .boxed()
    }
}

/// Drives a pooled connection; the pool ends the task with its client.
fn driven<T>(connection: Connection<Socket, T>) -> JoinHandle<()>
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::warn!(%error, cause = error.source(), "a connection to the database was lost");
        }
    })
}
