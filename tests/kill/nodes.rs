//! The three nodes: real programs with a data folder, a project and an opencode each, on one database, each as a role of its own.

use crate::mutants::Mutant;
use crate::support::cluster::TestDatabase;
use crate::support::leaks::{marked_processes, our_zombies};
use crate::support::opencode::{model_config, opencode_program};
use crate::support::repos::Repos;
use crate::support::serve::{Place, SCRIPTED, Served};
use agentpool::scripted_model::ScriptedModel;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio_postgres::NoTls;

pub const COUNT: usize = 3;

pub struct Node {
    pub place: Place,
    /// Empty while it is down.
    pub served: Mutex<Option<Served>>,
    mutant: Mutant,
    hold_ms: u64,
}

pub struct Nodes {
    pub all: Vec<Node>,
    /// What sessions that may move are cloned from.
    pub origin: Repos,
    _model: ScriptedModel,
}

pub fn role(number: usize) -> String {
    format!("node_{number}")
}

impl Nodes {
    pub async fn start(database: &TestDatabase, mutant: Mutant, hold_ms: u64) -> Self {
        let model = ScriptedModel::start(0).unwrap();
        let program = opencode_program().await;
        let agents = format!(
            "hands = 16\ndrain_timeout_secs = 5\n{SCRIPTED}\n\
             [agents.opencode]\nbackend = \"opencode_server\"\ncommand = {program:?}\nhome = \"isolated\"\n\
             [agents.opencode.env]\nOPENCODE_DISABLE_MODELS_FETCH = \"1\"\nOPENCODE_CONFIG_CONTENT = '''{}'''",
            model_config(&model.base_url())
        );
        let (client, connection) = database.config.connect(NoTls).await.unwrap();
        tokio::spawn(connection);
        let mut all = Vec::new();
        for number in 0..COUNT {
            let role = role(number);
            // The cluster is shared by the runs of this process.
            let make = format!(
                "DO $$ BEGIN CREATE ROLE {role} LOGIN SUPERUSER; EXCEPTION WHEN duplicate_object THEN NULL; END $$"
            );
            client.batch_execute(&make).await.unwrap();
            let mut config = database.config.clone();
            config.user(&role);
            all.push(Node { place: Place::at(&config, &agents), served: Mutex::default(), mutant, hold_ms });
        }
        let nodes = Self { all, origin: Repos::new(), _model: model };
        nodes.all_up().await;
        nodes
    }

    /// Starts what is down.
    pub async fn all_up(&self) {
        for node in &self.all {
            let mut served = node.served.lock().await;
            if served.is_none() {
                *served = Some(node.start().await);
            }
        }
    }

    /// Tells all to stop; whatever is wrong then.
    pub async fn end(&self, mutant: Mutant) -> Vec<String> {
        let mut found = Vec::new();
        for (number, node) in self.all.iter().enumerate() {
            let Some(served) = node.served.lock().await.take() else { continue };
            served.signal(Signal::SIGTERM);
            let (status, said) = served.ended().await;
            if status.code() != Some(0) {
                found.push(format!("node {number} ended with {status}: {:?}", said.last()));
            }
        }
        // What a shim still had to do it has done by now; what it did not is left for good.
        tokio::time::sleep(Duration::from_secs(1)).await;
        for (number, node) in self.all.iter().enumerate() {
            let left = marked_processes(&node.place.mark());
            if !left.is_empty() {
                found.push(format!("still alive after node {number}: {left:?}"));
            }
            if mutant == Mutant::NoShim {
                for pid in left {
                    let _ = kill(Pid::from_raw(pid.cast_signed()), Signal::SIGKILL);
                }
            }
        }
        let zombies = our_zombies();
        if !zombies.is_empty() {
            found.push(format!("children that nobody collected: {zombies:?}"));
        }
        found
    }
}

impl Node {
    pub async fn start(&self) -> Served {
        let serve = self.place.command();
        let mut command = std::process::Command::new(self.mutant.program());
        command.args(serve.get_args()).env_remove("DATABASE_URL").env_remove("RUST_LOG");
        command.stdin(std::process::Stdio::null());
        command.env("FAILPOINTS", format!("claimed=delay:{}", self.hold_ms)).env("AGENTPOOL_POLL_SECS", "2");
        self.place.start(command).await
    }

    /// The agents of this node, not their shims.
    pub fn agents(&self) -> Vec<Pid> {
        let is_agent = |pid: &u32| {
            std::fs::read_to_string(format!("/proc/{pid}/cmdline"))
                .is_ok_and(|line| line.contains("opencode\0serve"))
        };
        let pids = marked_processes(&self.place.mark());
        pids.iter().filter(|pid| is_agent(pid)).map(|pid| Pid::from_raw(pid.cast_signed())).collect()
    }
}
