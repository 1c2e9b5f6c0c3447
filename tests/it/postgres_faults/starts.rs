//! What is wrong with the database or the data folder when the program starts: it says what and what to do, and ends.

use crate::support::cli::{Ended, User};
use crate::support::cluster::connection_string;
use crate::support::cluster::fresh_database;
use crate::support::queue::connect;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use tokio::net::TcpListener;

async fn serve_on(database_url: &str) -> Ended {
    User::new().run(&["serve", "--listen", "127.0.0.1:0", "--database-url", database_url]).await
}

#[tokio::test]
async fn a_database_that_is_not_there_ends_the_start_with_69_and_says_what_to_do() {
    // A port at which nobody listens, and one at which somebody does who never says a word.
    let deaf = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let deaf_port = deaf.local_addr().unwrap().port();
    for (url, words) in [
        ("postgresql://ann@127.0.0.1:1/work".to_owned(), "refused"),
        (format!("postgresql://ann@127.0.0.1:{deaf_port}/work"), "says nothing"),
        ("postgresql://ann@no.such.host.invalid/work".to_owned(), "resolve"),
        ("host=/no/such/folder user=ann dbname=work".to_owned(), "No such file"),
    ] {
        let ended = serve_on(&url).await.expect(69);
        assert!(ended.stderr.contains("check that it runs and takes connections"), "{}", ended.stderr);
        assert!(ended.stderr.contains(words) || words == "resolve", "{words}: {}", ended.stderr);
        assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
    }
}

#[tokio::test]
async fn a_database_that_does_not_let_us_in_ends_the_start_with_78_and_says_what_to_look_at() {
    let db = fresh_database().await;
    let good = connection_string(&db.config);
    for (bad, words) in [
        (good.replace(&format!("dbname={}", db.name), "dbname=nowhere"), "\"nowhere\" does not exist"),
        (good.replace("user=agentpool", "user=nobody_such"), "\"nobody_such\" does not exist"),
    ] {
        let ended = serve_on(&bad).await.expect(78);
        assert!(ended.stderr.contains(words), "{}", ended.stderr);
        assert!(ended.stderr.contains("check user, password and database"), "{}", ended.stderr);
    }
    let ended = serve_on("postgresql://ann@127.0.0.1:1/work?sslmode=bogus").await.expect(78);
    assert!(ended.stderr.contains("postgres://user:password@host"), "{}", ended.stderr);
}

#[tokio::test]
async fn a_database_that_is_read_only_or_not_ours_to_write_ends_the_start_with_words() {
    let db = fresh_database().await;
    let sql = connect(&db).await;
    let name = &db.name;
    sql.batch_execute(&format!("ALTER DATABASE {name} SET default_transaction_read_only = on"))
        .await
        .unwrap();
    let ended = serve_on(&connection_string(&db.config)).await.expect(69);
    assert!(ended.stderr.contains("read-only: point the service at the primary"), "{}", ended.stderr);
    sql.batch_execute(&format!("ALTER DATABASE {name} RESET default_transaction_read_only")).await.unwrap();

    let poor = format!("CREATE ROLE poor_{name} LOGIN");
    sql.batch_execute(&poor).await.unwrap();
    let url = connection_string(&db.config).replace("user=agentpool", &format!("user=poor_{name}"));
    let ended = serve_on(&url).await.expect(78);
    assert!(ended.stderr.contains("permission denied"), "{}", ended.stderr);
    assert!(ended.stderr.contains("GRANT"), "{}", ended.stderr);
}

/// Runs `agentpool serve` on a data folder below `$DISK`, a tmpfs in a mount namespace of its own that is gone with it.
async fn serve_on_disk(prepare: &str, arguments: &str) -> Ended {
    let disk = tempfile::tempdir().unwrap();
    // As root, Postgres runs under another account and has to get through.
    fs::set_permissions(disk.path(), fs::Permissions::from_mode(0o711)).unwrap();
    let as_root = if nix::unistd::geteuid().is_root() { "" } else { "--user --map-root-user" };
    let script = format!(
        "unshare --mount --propagation private {as_root} sh -ec 'mount -t tmpfs -o size=3m,mode=755 tmpfs \"$DISK\"\n{prepare}\n\
         exec \"$AGENTPOOL\" serve --listen 127.0.0.1:0 --data-dir \"$DISK/data\" {arguments}'"
    );
    let mut command = Command::new("sh");
    command
        .args(["-c", &script])
        .env("DISK", disk.path())
        .env("AGENTPOOL", crate::support::shims::agentpool());
    command.env_remove("DATABASE_URL").env_remove("RUST_LOG").stdin(std::process::Stdio::null());
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let ended = Ended {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    };
    assert!(!ended.stderr.contains("mount:"), "this test must be able to mount a tmpfs: {}", ended.stderr);
    assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
    ended
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_folder_on_a_full_disk_is_told_by_name() {
    let full = "mkdir -m 711 \"$DISK/data\"; head -c 10m /dev/zero > \"$DISK/filler\" 2>/dev/null || true";
    let ended = serve_on_disk(full, "").await.expect(1);
    assert!(ended.stderr.contains("No space left on device"), "{}", ended.stderr);
    assert!(ended.stderr.contains("the space on its disk"), "{}", ended.stderr);
    assert!(ended.stderr.contains("--data-dir"), "{}", ended.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_too_small_for_the_embedded_postgres_is_told_by_name() {
    let ended = serve_on_disk("true", "").await.expect(1);
    assert!(ended.stderr.contains("No space left on device"), "{}", ended.stderr);
    assert!(ended.stderr.contains("free some space"), "{}", ended.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_folder_that_cannot_be_written_is_told_by_name() {
    let ended = serve_on_disk("mount -o remount,ro \"$DISK\"", "").await.expect(1);
    assert!(ended.stderr.contains("Read-only file system"), "{}", ended.stderr);
    assert!(ended.stderr.contains("--data-dir"), "{}", ended.stderr);
    // A file in its place.
    let user = User::new();
    fs::write(user.data_dir(), "").unwrap();
    let ended = user.run(&["serve"]).await.expect(1);
    assert!(
        ended.stderr.contains("cannot use the data folder") && ended.stderr.contains("--data-dir"),
        "{}",
        ended.stderr
    );
    // A node id that is none.
    let user = User::new();
    fs::create_dir(user.data_dir()).unwrap();
    fs::write(user.data_dir().join("node_id"), "who am I").unwrap();
    let ended = user.run(&["serve"]).await.expect(1);
    assert!(ended.stderr.contains("node_id"), "{}", ended.stderr);
}
