//! How we connect: time limits on every statement, keepalives that notice a dead peer. No TLS yet: a URL that
//! demands it is refused with an error by the driver.

use deadpool_postgres::{Manager, ManagerConfig, Pool, RecyclingMethod, Runtime, Timeouts};
use std::time::Duration;
use tokio_postgres::{Config, NoTls};

/// How long a caller waits for a connection of a pool.
const WAIT: Duration = Duration::from_secs(5);

/// Limits for direct connections: a statement ends within 30 s, a lock is waited for 5 s (a third of a lease), and
/// a dead machine's connection (and its advisory lock) is gone after 19 s instead of two hours, and
/// an idle transaction is ended: one pinned xmin costs the queue a third of its speed within 20 s.
const OPTIONS: &str = "-c statement_timeout=30s -c lock_timeout=5s -c idle_in_transaction_session_timeout=30s \
                       -c tcp_keepalives_idle=10 -c tcp_keepalives_interval=3 -c tcp_keepalives_count=3 \
                       -c application_name=agentpool";

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

pub(super) fn pool(config: Config, size: usize) -> Pool {
    let manager =
        Manager::from_config(config, NoTls, ManagerConfig { recycling_method: RecyclingMethod::Fast });
    Pool::builder(manager)
        .max_size(size)
        .runtime(Runtime::Tokio1)
        .timeouts(Timeouts { wait: Some(WAIT), create: Some(WAIT), recycle: Some(WAIT) })
        .build()
        .expect("a runtime is set, which is all that timeouts need")
}
