//! A Postgres that one test may stop, kill and start again.

use super::cluster::{TEST_SETTINGS, cluster_folder};
use super::shims::{agentpool, fresh_mark};
use agentpool::embedded_postgres::{EmbeddedPostgres, find_binaries};
use agentpool::process::Shims;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use tokio_postgres::{Client, Config, NoTls};

pub struct OwnCluster {
    folder: PathBuf,
    _lock: Arc<OwnedFd>,
    shims: Shims,
    /// None while it is down.
    server: Option<EmbeddedPostgres>,
    pub config: Config,
}

impl OwnCluster {
    pub async fn start(name: &str) -> Self {
        let (folder, lock) = cluster_folder(name);
        let shims = Shims::new(agentpool(), fresh_mark(), Some(lock.clone()));
        let mut cluster = Self { folder, _lock: lock, shims, server: None, config: Config::new() };
        cluster.go_on().await;
        cluster
    }

    /// Starts it again.
    pub async fn go_on(&mut self) {
        let bins =
            find_binaries(&self.folder).expect("the tests need PostgreSQL 15 or later on this machine");
        let server =
            EmbeddedPostgres::start_with(&self.folder, &self.shims, bins, &TEST_SETTINGS).await.unwrap();
        self.config = server.config();
        self.server = Some(server);
    }

    /// Ends it in order; every connection is lost.
    pub async fn stop(&mut self) {
        self.server.take().expect("it runs").stop().await;
    }

    pub async fn sql(&self) -> Client {
        let (client, connection) = self.config.connect(NoTls).await.unwrap();
        tokio::spawn(connection);
        client
    }
}
