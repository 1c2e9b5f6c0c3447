//! A cluster comes up from nothing, keeps what was committed, and goes with its owner.

use crate::support::cluster::{TEST_SETTINGS, cluster_folder, fresh_database};
use crate::support::leaks::{is_alive, until};
use crate::support::owner::Owner;
use crate::support::shims::{agentpool, fresh_mark};
use agentpool::embedded_postgres::{
    EmbeddedPostgres, EmbeddedPostgresError, PostgresBinaries, find_binaries,
};
use agentpool::process::{ChildExit, Shims};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;
use tokio_postgres::{Client, NoTls};

const SOON: Duration = Duration::from_secs(60);

fn binaries(data_dir: &Path) -> PostgresBinaries {
    find_binaries(data_dir).expect("the tests need PostgreSQL 15 or later on this machine")
}

fn shims() -> Shims {
    Shims::new(agentpool(), fresh_mark(), None)
}

/// As the product starts it, settings and all.
async fn start(data_dir: &Path, shims: &Shims) -> Result<EmbeddedPostgres, EmbeddedPostgresError> {
    EmbeddedPostgres::start(data_dir, shims, binaries(data_dir)).await
}

async fn connect(server: &EmbeddedPostgres) -> Client {
    let (client, connection) = server.config().connect(NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

async fn answer(client: &Client, sql: &str) -> String {
    client.query_one(sql, &[]).await.unwrap().get(0)
}

#[tokio::test]
async fn every_test_gets_an_empty_database_of_its_own() {
    let (one, two) = tokio::join!(fresh_database(), fresh_database());
    assert_ne!(one.name, two.name);
    let (client, connection) = one.config.connect(NoTls).await.unwrap();
    tokio::spawn(connection);
    assert_eq!(answer(&client, "SELECT current_database()::text").await, one.name);
    assert_eq!(answer(&client, "SELECT current_user::text").await, "agentpool");
}

#[tokio::test]
async fn a_new_cluster_is_durable_private_and_speaks_utf8_in_c() {
    let (folder, _lock) = cluster_folder("new");
    let server = start(&folder, &shims()).await.unwrap();
    let client = connect(&server).await;
    for (setting, value) in [
        ("fsync", "on"),
        ("synchronous_commit", "on"),
        ("full_page_writes", "on"),
        ("data_checksums", "on"),
        ("listen_addresses", ""),
        ("max_connections", "100"),
        ("server_encoding", "UTF8"),
    ] {
        assert_eq!(answer(&client, &format!("SHOW {setting}")).await, value, "{setting}");
    }
    let collation = "SELECT datcollate::text FROM pg_database WHERE datname = current_database()";
    assert_eq!(answer(&client, collation).await, "C");
    let psql =
        server_program(&folder, "psql").args([&server.url(), "-Atc", "SELECT 6 * 7"]).output().unwrap();
    assert_eq!(String::from_utf8(psql.stdout).unwrap(), "42\n", "{:?}", String::from_utf8(psql.stderr));
    server.stop().await;
    let log = fs::read_to_string(folder.join("postgres.log")).unwrap();
    assert!(log.contains("database system is shut down"), "{log}");
}

#[tokio::test]
async fn committed_rows_survive_sigkill_of_the_owner_and_no_server_does() {
    let (folder, lock) = cluster_folder("killed");
    drop(lock);
    let mut owner =
        Owner::play("embedded_postgres::owner_of_a_cluster", [("OWNER_DATA", folder.as_os_str())]);
    let pid = owner.hear("postmaster").parse().unwrap();
    owner.signal(Signal::SIGKILL);
    let free = || File::open(folder.with_extension("lock")).unwrap().try_lock().is_ok();
    until("the lock of the data folder is free", SOON, free).await;
    assert!(!is_alive(pid), "the lock is held for as long as the server lives");

    let server = start(&folder, &shims()).await.unwrap();
    assert_eq!(answer(&connect(&server).await, "SELECT word FROM kept").await, "yes");
    server.stop().await;
}

#[tokio::test]
#[ignore = "a part that other tests start in a process of its own"]
async fn owner_of_a_cluster() {
    let data = std::env::var_os("OWNER_DATA").expect("set by whoever starts this part");
    let data = Path::new(&data);
    let lock = File::open(data.with_extension("lock")).unwrap();
    lock.lock().unwrap();
    let shims = Shims::new(agentpool(), fresh_mark(), Some(std::sync::Arc::new(lock.into())));
    let server = start(data, &shims).await.unwrap();
    let sql = "CREATE TABLE kept (word text); INSERT INTO kept VALUES ('yes')";
    connect(&server).await.batch_execute(sql).await.unwrap();
    println!("postmaster: {}", server.pid());
    server.exited().await;
}

#[tokio::test]
async fn a_server_killed_whole_is_told_and_starts_again_past_its_stale_files() {
    let (folder, _lock) = cluster_folder("stale");
    let shims = shims();
    let server = start(&folder, &shims).await.unwrap();
    kill(Pid::from_raw(server.pid().cast_signed()), Signal::SIGKILL).unwrap();
    assert_eq!(server.exited().await, ChildExit::Signal(9));
    until("its tree is gone", SOON, || shims.live() == 0).await;
    // The number in the stale file now belongs to a stranger of the same account: another cluster's postmaster.
    let (other_folder, _other_lock) = cluster_folder("stranger");
    let stranger = start(&other_folder, &shims).await.unwrap();
    let file = folder.join("postgres/postmaster.pid");
    let stale = fs::read_to_string(&file).unwrap();
    let (_, rest) = stale.split_once('\n').unwrap();
    fs::write(&file, format!("{}\n{rest}", stranger.pid())).unwrap();

    let server = start(&folder, &shims).await.unwrap();
    assert!(is_alive(stranger.pid()), "the stranger was left alone");
    let again = start(&folder, &shims).await;
    assert!(matches!(again, Err(EmbeddedPostgresError::AlreadyRunning { pid, .. }) if pid == server.pid()));
    assert_eq!(answer(&connect(&server).await, "SELECT 'still there'").await, "still there");
    tokio::join!(server.stop(), stranger.stop());
    assert_eq!(shims.live(), 0);
}

#[tokio::test]
async fn an_initialisation_cut_off_in_the_middle_is_repaired() {
    let (folder, _lock) = cluster_folder("halfway");
    let half_made = folder.join("postgres.new/base");
    fs::create_dir_all(&half_made).unwrap();
    fs::write(half_made.join("PG_VERSION"), "15\n").unwrap();
    let settings = TEST_SETTINGS;
    let server = EmbeddedPostgres::start_with(&folder, &shims(), binaries(&folder), &settings).await.unwrap();
    // The database is made after the rename: a kill between the two leaves a cluster without it.
    let (client, connection) = server.config().dbname("postgres").connect(NoTls).await.unwrap();
    tokio::spawn(connection);
    client.batch_execute("DROP DATABASE agentpool").await.unwrap();
    server.stop().await;
    let server = EmbeddedPostgres::start_with(&folder, &shims(), binaries(&folder), &settings).await.unwrap();
    connect(&server).await;
    server.stop().await;
}

#[tokio::test]
async fn a_cluster_of_another_major_version_is_refused_by_number() {
    let (folder, _lock) = cluster_folder("major");
    fs::create_dir(folder.join("postgres")).unwrap();
    fs::write(folder.join("postgres/PG_VERSION"), "9\n").unwrap();
    let error = start(&folder, &shims()).await.unwrap_err();
    assert!(matches!(error, EmbeddedPostgresError::OtherMajor { cluster: 9, .. }), "{error}");
}

#[tokio::test]
async fn a_server_that_refuses_to_start_says_why_at_once() {
    let (folder, _lock) = cluster_folder("refuses");
    let wrong = [("shared_buffers", "1kB")];
    let error = EmbeddedPostgres::start_with(&folder, &shims(), binaries(&folder), &wrong).await.unwrap_err();
    let EmbeddedPostgresError::Ended { output, .. } = error else { panic!("{error}") };
    assert!(output.contains("shared_buffers"), "{output}");
}

/// Only root hands Postgres to another account; for all others the folder is their own.
#[tokio::test]
async fn a_data_folder_that_postgres_cannot_reach_is_named() {
    let (folder, _lock) = cluster_folder("closed");
    fs::set_permissions(&folder, Permissions::from_mode(0o700)).unwrap();
    let started = start(&folder.join("data"), &shims()).await;
    if nix::unistd::geteuid().is_root() {
        let error = started.unwrap_err();
        assert!(
            matches!(&error, EmbeddedPostgresError::FolderClosed { folder: closed, .. } if *closed == folder),
            "{error}"
        );
    } else {
        started.unwrap().stop().await;
    }
}

fn server_program(data_dir: &Path, name: &str) -> std::process::Command {
    let mut command = std::process::Command::new(binaries(data_dir).dir.join(name));
    command.env_remove("PGHOST").env_remove(OsStr::new("PGPASSWORD"));
    command
}
