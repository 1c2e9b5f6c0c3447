//! The same prompt the old way: `opencode run`, a process a prompt.

use super::stage::{Opencode, Stage};
use crate::cli::CliError;
use crate::process::{ChildExit, ChildSpec, Environment, Limits, Shims, StdinMode, StopPlan};
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Longest that one is waited for.
const DEADLINE: Duration = Duration::from_secs(120);

/// How long the second of two runs takes: the first one also makes opencode's home.
pub(super) async fn run(stage: &Stage, opencode: &Opencode) -> Result<Duration, CliError> {
    let mark = format!("agentpool-demo-{}", std::process::id());
    let shims = Shims::new(PathBuf::from("/proc/self/exe"), mark, None);
    once(stage, opencode, &shims).await?;
    once(stage, opencode, &shims).await
}

async fn once(stage: &Stage, opencode: &Opencode, shims: &Shims) -> Result<Duration, CliError> {
    let home = stage.folder().join("one-shot-home");
    std::fs::create_dir_all(&home).map_err(CliError::Scratch)?;
    let env = Environment::allow_listed()
        .set("HOME", &home)
        .set("XDG_DATA_HOME", home.join("data"))
        .set("XDG_CONFIG_HOME", home.join("config"))
        .set("XDG_STATE_HOME", home.join("state"))
        .set("XDG_CACHE_HOME", home.join("cache"))
        .set("OPENCODE_CONFIG_CONTENT", &opencode.config_content)
        .set("OPENCODE_DISABLE_AUTOUPDATE", "1")
        .set("OPENCODE_DISABLE_MODELS_FETCH", "1");
    let begun = Instant::now();
    let child = shims
        .spawn(ChildSpec {
            name: "opencode run".to_owned(),
            program: opencode.program.clone(),
            args: ["run", "SAY: This is session one; the agent is warm now."].map(OsString::from).to_vec(),
            env,
            cwd: stage.repository.clone(),
            stdin: StdinMode::Null,
            run_as: None,
            stop: StopPlan::Terminate,
            grace: Duration::from_secs(2),
            serves_leases: false,
            limits: Limits::default(),
        })
        .await
        .map_err(|error| CliError::Runtime(std::io::Error::other(error)))?;
    let exit = tokio::time::timeout(DEADLINE, child.exited()).await;
    let took = begun.elapsed();
    child.stop(crate::domain::turn::StopForce::Terminate).await;
    match exit {
        Ok(ChildExit::Code(0)) => Ok(took),
        Ok(exit) => Err(CliError::Runtime(std::io::Error::other(format!(
            "opencode run: {exit}: {}",
            child.stderr_tail()
        )))),
        Err(_) => {
            Err(CliError::Runtime(std::io::Error::other("opencode run did not end within two minutes")))
        }
    }
}
