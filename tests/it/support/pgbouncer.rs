//! A real PgBouncer in transaction mode before a test's database.

use super::shims::{agentpool, fresh_mark};
use agentpool::process::{Account, Child, ChildSpec, Environment, Limits, Shims, StdinMode, StopPlan};
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_postgres::Config;
use tokio_postgres::config::Host;

/// Runs until it is dropped.
pub struct PgBouncer {
    /// The way through it.
    pub config: Config,
    _child: Child,
    _folder: TempDir,
}

impl PgBouncer {
    /// With these lines in its configuration besides.
    pub async fn before(database: &Config, settings: &str) -> Self {
        let Some(Host::Unix(socket)) = database.get_hosts().first() else { panic!("{database:?}") };
        let (user, name) = (database.get_user().unwrap(), database.get_dbname().unwrap());
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let file = folder.path().join("pgbouncer.ini");
        let text = format!(
            "[databases]\n{name} = host={} port=5432 dbname={name} user={user}\n\
             [pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {}\nunix_socket_dir =\nauth_type = any\n\
             pool_mode = transaction\n{settings}\n",
            socket.display(),
            address.port()
        );
        fs::write(&file, text).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        // It refuses to run as root, and reaches the cluster's socket as the cluster's own account.
        let run_as = nix::unistd::geteuid().is_root().then(|| Account::unprivileged().unwrap());
        let child = Shims::new(agentpool(), fresh_mark(), None)
            .spawn(ChildSpec {
                name: "pgbouncer".into(),
                program: program().into(),
                args: vec![file.into()],
                env: Environment::allow_listed(),
                cwd: "/".into(),
                stdin: StdinMode::Null,
                run_as,
                stop: StopPlan::Terminate,
                grace: Duration::from_secs(1),
                serves_leases: false,
                limits: Limits::default(),
            })
            .await
            .expect("the tests need PgBouncer: apt-get install pgbouncer");
        answers(address, &child).await;
        let mut config = Config::new();
        config.host("127.0.0.1").port(address.port()).user(user).dbname(name);
        Self { config, _child: child, _folder: folder }
    }
}

/// Debian puts it where only root's `PATH` leads.
fn program() -> &'static str {
    if fs::exists("/usr/sbin/pgbouncer").unwrap_or(false) { "/usr/sbin/pgbouncer" } else { "pgbouncer" }
}

async fn answers(address: SocketAddr, child: &Child) {
    let waiting = async {
        while TcpStream::connect(address).await.is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::select! {
        up = tokio::time::timeout(super::node::PATIENCE, waiting) => up.expect("PgBouncer listens"),
        exit = child.exited() => panic!("PgBouncer ended ({exit}): {}", child.stderr_tail()),
    }
}
