//! The only file that knows all rooms: builds a node, spawns what runs in it, and drains it again. No logic of its own.

mod backends;
mod data_folder;
mod error;
mod keepers;
mod local_node;
mod local_review;
mod pool_view;
mod postgres;
mod scales;

pub use crate::store::StoreError;
pub use crate::store::migrate::MigrateError;
pub use crate::store::probe::NotificationsError;
pub use data_folder::{DataFolder, DataFolderError};
pub use error::AppError;
pub use postgres::DatabaseError;

use crate::backend::AgentBackend;
use crate::config::Config;
use crate::dispatch::dispatcher::{self, DispatchEnd, Pace};
use crate::dispatch::event_writer::EventWriter;
use crate::dispatch::executor::Engine;
use crate::dispatch::leases::Leases;
use crate::dispatch::pg_source::PgSource;
use crate::dispatch::rescuer;
use crate::domain::agent::{AgentName, AgentProfile};
use crate::domain::ids::{Incarnation, NodeId, SessionId};
use crate::http::{Api, Doors, Feed, Gate, Tls, Token};
use crate::pool::AgentPool;
use crate::pool::eviction::Limits;
use crate::process::Shims;
use crate::pulse::{Pulse, Watchdog};
use crate::shutdown::Shutdown;
use crate::store::Store;
use crate::store::listener::{Listener, ListenerState, listener};
use crate::store::migrate::migrate;
use crate::store::probe::check_notifications;
use crate::telemetry;
use crate::worktree::Worktrees;
use keepers::{feed_ends, feed_hints, feed_rows, serve_http, sweep, until, until_after, upkeep};
use local_node::NodeHandle;
use local_review::Review;
use postgres::Database;
use scales::ShimScales;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, Semaphore, broadcast};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

/// What agents get between TERM and KILL when a node ends; and when it ends at once.
const AGENT_GRACE: Duration = Duration::from_secs(2);
const HURRIED_GRACE: Duration = Duration::from_millis(300);
/// A connection of an earlier start on a machine that died holds the node's lock until its keepalives give up (19 s).
const LOCK_DEADLINE: Duration = Duration::from_secs(25);
/// Between the end of what the dispatcher feeds and its own end being seen.
const SEEN_TO_END: Duration = Duration::from_secs(5);
/// What the event writer gets for its last rows when the program ends.
const LAST_WRITES: Duration = Duration::from_secs(1);
/// How long the listener may take to hear itself before the start fails.
const LISTEN_DEADLINE: Duration = Duration::from_secs(15);

/// A node that runs.
pub struct Node {
    running: Running,
    database: Database,
}

/// All of a node but its database, which outlives it.
struct Running {
    scheme: &'static str,
    addr: SocketAddr,
    token: String,
    store: Store,
    folder: DataFolder,
    pool: AgentPool,
    shims: Shims,
    shutdown: Shutdown,
    dispatcher: JoinSet<DispatchEnd>,
    /// Ends with `stop`, after the dispatcher.
    keepers: JoinSet<()>,
    stop: CancellationToken,
    closing: CancellationToken,
    _watchdog: Watchdog,
}

/// Starts a node, handles signals, and returns when it has drained. `program` is how shims are started.
///
/// # Errors
/// [`AppError`] when it could not start; nothing is left running.
pub async fn serve(config: Config, program: PathBuf) -> Result<(), AppError> {
    let shutdown = Shutdown::default();
    let signals = tokio::spawn(shutdown.clone().on_signals());
    let node = tokio::select! {
        node = Node::start(config, program, shutdown.clone()) => node?,
        // Dropping a start half-way closes the lifelines of what it had started.
        () = shutdown.asked() => return Ok(()),
    };
    tracing::info!(url = %node.url(), data = %node.running.folder.path().display(), "agentpool is ready");
    if node.database.is_embedded() {
        tracing::info!("psql reaches its tables by: psql '{}'", node.database_url());
    }
    let outcome = node.join().await;
    signals.abort();
    outcome
}

impl Node {
    /// Builds and starts everything. Ready when it returns: it has heard its own notification.
    ///
    /// # Errors
    /// [`AppError`]; nothing is left running.
    ///
    /// # Cancel safety
    /// Dropped half-way, what was started ends by its lifelines.
    pub async fn start(config: Config, program: PathBuf, shutdown: Shutdown) -> Result<Self, AppError> {
        let tls = config.tls.as_ref().map(|tls| Tls::load(&tls.certificate, &tls.key)).transpose()?;
        let folder = DataFolder::open(&config.data_dir).await?;
        let node = folder.node_id()?;
        let shims = Shims::new(program, format!("agentpool-{node}"), Some(folder.lock()));
        // The lock is ours, so no shim of an earlier start is left; what escaped one is ended here.
        shims.sweep().await;
        let database = Database::open(&config, &folder, &shims).await?;
        match Self::start_on(&config, tls, node, folder, shims.clone(), &database, shutdown).await {
            Ok(running) => Ok(Self { running, database }),
            Err(error) => {
                database.stop().await;
                Err(error)
            }
        }
    }

    async fn start_on(
        config: &Config,
        tls: Option<Tls>,
        node: NodeId,
        folder: DataFolder,
        shims: Shims,
        database: &Database,
        shutdown: Shutdown,
    ) -> Result<Running, AppError> {
        let store = Store::new(database.direct(), database.reads());
        // Before anything is written: the migration's lock would stay with a pooler's connection.
        check_notifications(&store).await?;
        migrate(&store).await?;
        if database.is_embedded() {
            store.set_search_path().await?;
        }
        let incarnation = Incarnation(Uuid::new_v4());
        let hostname =
            nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let lock_key = store.register_node(node.0, incarnation.0, &hostname).await?;
        let token = folder.token()?;
        let (backends, profiles) = build_backends(config, &folder, &shims, &store, &token).await?;
        let epoch = store.epoch().await?;
        store.make_partitions().await?;

        let (stop, closing) = (CancellationToken::new(), CancellationToken::new());
        let mut keepers = JoinSet::new();
        let (listener, listening) = listener(store.clone(), lock_key, stop.clone());
        keepers.spawn(listening);
        heard(&listener).await?;
        let (source, forwarding) = PgSource::new(store.clone(), node, incarnation, &listener);
        keepers.spawn(until(stop.clone(), forwarding));
        let source = Arc::new(source);

        // 256 commits: a reader that lags is woken by the lag.
        let (committed, _) = broadcast::channel::<SessionId>(256);
        let feed = Feed::default();
        keepers.spawn(until(stop.clone(), feed_rows(store.appended(), feed.clone())));
        keepers.spawn(until(stop.clone(), feed_ends(committed.subscribe(), feed.clone())));
        keepers.spawn(until(stop.clone(), feed_hints(listener.hints.subscribe(), node, feed.clone())));

        let (writer, writing) = EventWriter::new(source.clone());
        keepers.spawn(until_after(stop.clone(), LAST_WRITES, writing));
        let live_max = NonZeroUsize::new(config.pool.live_max).unwrap_or(NonZeroUsize::MIN);
        let idle_ttl = Duration::from_secs(config.pool.idle_ttl_secs);
        let memory_bytes = config.pool.memory_mb.saturating_mul(1 << 20);
        let limits = Limits { idle_ttl, live_max, memory_bytes };
        let pool = AgentPool::new(backends, limits, Arc::new(ShimScales(shims.clone())));
        let worktrees = Worktrees::new(folder.path().to_owned());
        let leases = Leases::default();
        keepers.spawn(until(stop.clone(), leases.clone().keep(source.clone())));
        let held = leases.clone();
        keepers.spawn(until(stop.clone(), rescuer::run(source.clone(), move || held.all())));
        keepers.spawn(until(stop.clone(), sweep(pool.clone())));
        keepers.spawn(until(stop.clone(), upkeep(store.clone(), node, config.events_days)));

        let (pulse, panics) = (Pulse::default(), Arc::default());
        let watchdog = Watchdog::over(pulse.clone()).map_err(AppError::Watchdog)?;
        let engine = Arc::new(Engine {
            source,
            pool: pool.clone(),
            worktrees: worktrees.clone(),
            writer,
            leases,
            profiles,
            hands: Arc::new(Semaphore::new(usize::from(config.hands.max(1)))),
            hand_freed: Notify::new(),
            committed,
            pulse: pulse.clone(),
            panics: Arc::clone(&panics),
        });
        let review = Review::new(node, worktrees.clone(), store.clone());
        let api = Api {
            store: store.clone(),
            review: Arc::new(review),
            node: Arc::new(NodeHandle {
                id: node,
                pool: pool.clone(),
                worktrees,
                store: store.clone(),
                listener,
                shutdown: shutdown.clone(),
                pulse,
                panics,
            }),
            feed,
            gate: Arc::new(Gate::new(Token::of(&token))),
            doors: Arc::new(Doors { behind_proxy: config.behind_proxy, hosts: config.hosts.clone() }),
            epoch: epoch.into(),
            openapi: Arc::from(""),
            metrics: telemetry::counted(),
            steps: TaskTracker::new(),
            closing: closing.clone(),
        };
        let listening = tokio::net::TcpListener::bind(config.listen).await;
        let socket = listening.map_err(|source| AppError::Listen { addr: config.listen, source })?;
        let addr = socket.local_addr().map_err(|source| AppError::Listen { addr: config.listen, source })?;
        let scheme = if tls.is_some() { "https" } else { "http" };
        keepers.spawn(serve_http(socket, tls, api, closing.clone(), shutdown.clone()));

        let pace = Pace { poll: config.poll(), drain_timeout: config.drain_timeout() };
        let mut dispatcher = JoinSet::new();
        dispatcher.spawn(dispatcher::run(engine, pace, shutdown.clone()));
        Ok(Running {
            scheme,
            addr,
            token,
            store,
            folder,
            pool,
            shims,
            shutdown,
            dispatcher,
            keepers,
            stop,
            closing,
            _watchdog: watchdog,
        })
    }

    /// Where the API answers.
    pub fn url(&self) -> String {
        format!("{}://{}", self.running.scheme, self.running.addr)
    }

    /// The API's token.
    pub fn token(&self) -> &str {
        &self.running.token
    }

    /// The rows.
    pub fn store(&self) -> &Store {
        &self.running.store
    }

    /// How to connect to the database directly.
    pub fn database(&self) -> tokio_postgres::Config {
        self.database.direct()
    }

    /// For `psql`.
    pub fn database_url(&self) -> String {
        self.database.url()
    }

    /// Asks for a drain; asked twice, for an end at once.
    pub fn shutdown(&self) -> &Shutdown {
        &self.running.shutdown
    }

    /// Runs until a drain was asked and done.
    ///
    /// # Errors
    /// When the embedded Postgres did not come back, a part of the node failed, or turns could not be written; the rest
    /// was ended in order.
    pub async fn join(self) -> Result<(), AppError> {
        let Self { mut running, database } = self;
        let mut lost = loop {
            tokio::select! {
                ended = running.dispatcher.join_next() => break dispatch_failure(ended),
                ended = running.keepers.join_next(), if !running.keepers.is_empty() => match ended {
                    Some(Err(error)) => break Some(AppError::Defect(error)),
                    // The writer and the feed end with their last sender, a moment before the dispatcher's own end is seen.
                    Some(Ok(())) if !running.shutdown.is_asked() => {
                        let ended = tokio::time::timeout(SEEN_TO_END, running.dispatcher.join_next()).await;
                        break ended.map_or(Some(AppError::PartEnded), dispatch_failure);
                    }
                    Some(Ok(())) | None => {}
                },
                lost = database.lost() => break Some(AppError::PostgresLost(lost)),
            }
        };
        if let Some(error) = &lost {
            tracing::error!(%error, "stopping at once");
            running.shutdown.ask();
            running.shutdown.ask();
            while let Some(ended) = running.dispatcher.join_next().await {
                lost = lost.or(dispatch_failure(Some(ended)));
            }
        }
        let grace = if running.shutdown.is_killed() { HURRIED_GRACE } else { AGENT_GRACE };
        running.pool.dispose(grace).await;
        drop(running.pool);
        running.closing.cancel();
        running.stop.cancel();
        while let Some(ended) = running.keepers.join_next().await {
            if let Err(error) = ended {
                tracing::error!(%error, "a part of the node failed");
            }
        }
        running.store.close();
        database.stop().await;
        if running.shims.live() > 0 {
            tracing::warn!(shims = running.shims.live(), "shims are still ending their trees");
        }
        tracing::info!("agentpool has ended");
        lost.map_or(Ok(()), Err)
    }
}

/// What the dispatcher's end means for the program's.
fn dispatch_failure(ended: Option<Result<DispatchEnd, tokio::task::JoinError>>) -> Option<AppError> {
    match ended? {
        Ok(DispatchEnd::Drained) => None,
        Ok(DispatchEnd::Unwritten(turns)) => Some(AppError::Unwritten(turns)),
        Ok(DispatchEnd::Broken) => Some(AppError::Panics),
        Err(error) => Some(AppError::Defect(error)),
    }
}

type Backends = BTreeMap<AgentName, Arc<dyn AgentBackend>>;
type Profiles = BTreeMap<AgentName, AgentProfile>;

async fn build_backends(
    config: &Config,
    folder: &DataFolder,
    shims: &Shims,
    store: &Store,
    token: &str,
) -> Result<(Backends, Profiles), AppError> {
    let mut all = Backends::new();
    let mut profiles = Profiles::new();
    for (name, agent) in &config.agents {
        let refused = |message: String| AppError::Agent { agent: name.to_string(), message };
        let redactor = backends::redactor(agent, config, token).map_err(refused)?;
        let profile = agent.profile(name, redactor);
        let backend = backends::build(name, agent, folder.path(), shims).map_err(refused)?;
        store.upsert_agent(name.as_str(), profile.backend.as_str(), profile.default_model.as_deref()).await?;
        all.insert(profile.name.clone(), backend);
        profiles.insert(profile.name.clone(), profile);
    }
    Ok((all, profiles))
}

async fn heard(listener: &Listener) -> Result<(), AppError> {
    let mut state = listener.state.clone();
    let listening = state.wait_for(|state| *state == ListenerState::Listening);
    if !matches!(tokio::time::timeout(LISTEN_DEADLINE, listening).await, Ok(Ok(_))) {
        return Err(AppError::Deaf(match &*listener.state.borrow() {
            ListenerState::Down(why) => why.clone(),
            ListenerState::Connecting | ListenerState::Listening => {
                "LISTEN hears nothing; when the URL points at a pooler, give the way past it with --database-direct-url".to_owned()
            }
        }));
    }
    let mut locked = listener.locked.clone();
    match tokio::time::timeout(LOCK_DEADLINE, locked.wait_for(|locked| *locked)).await {
        Ok(Ok(_)) => Ok(()),
        _ => Err(AppError::SameNode),
    }
}
