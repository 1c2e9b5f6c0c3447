//! Looks at this machine: the data folder, and the programs that the service starts. Runs them for their version only.

use super::Check;
use super::acp::{self, Hello, Unheard};
use crate::config::{AgentConfig, Config, LaunchError, Preset};
use crate::domain::agent::{AgentName, BackendKind};
use crate::install::Package;
use crate::process::Environment;
use nix::unistd::{AccessFlags, access};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tokio::process::Command;
use tokio::time::timeout;

/// How long a program may take to say its version. opencode unpacks itself on its first start.
const VERSION_DEADLINE: Duration = Duration::from_secs(30);

/// The oldest git whose worktree and merge-tree commands behave as ours expect.
const GIT_MIN: (u32, u32) = (2, 40);

/// The oldest Node.js whose npm installs the pinned packages.
const NODE_MAJOR_MIN: u32 = 20;

/// May everything be written that has to be?
pub(super) fn data_folder(folder: &Path) -> Check {
    let name = "data folder";
    let advice = "choose another with --data-dir, or give this user the right to write there";
    let Some(existing) = folder.ancestors().find(|folder| folder.exists()) else {
        return Check::fail(name, format!("nothing of {folder:?} exists"), advice);
    };
    if !existing.is_dir() {
        return Check::fail(name, format!("{existing:?} is no folder"), advice);
    }
    match access(existing, AccessFlags::R_OK | AccessFlags::W_OK | AccessFlags::X_OK) {
        Ok(()) if existing == folder => Check::ok(name, folder.display().to_string()),
        Ok(()) => Check::ok(name, format!("{} (will be made)", folder.display())),
        Err(error) => Check::fail(name, format!("{existing:?} cannot be written: {error}"), advice),
    }
}

/// Is there a git, and is it young enough?
pub(super) async fn git() -> Check {
    let needed = format!("install git {}.{} or later", GIT_MIN.0, GIT_MIN.1);
    match version_of(Path::new("git")).await {
        Err(problem) => Check::fail("git", problem, needed),
        Ok(said) => match numbers(&said) {
            Some(version) if version >= GIT_MIN => Check::ok("git", said),
            _ => Check::fail("git", said, needed),
        },
    }
}

/// Node.js and npm: only an installation needs them.
pub(super) async fn node() -> Check {
    let advice = format!("`agentpool agents install` needs Node.js {NODE_MAJOR_MIN} or later with npm");
    let (node, npm) = tokio::join!(version_of(Path::new("node")), version_of(Path::new("npm")));
    match (node, npm) {
        (Ok(node), Ok(npm)) => {
            let found = format!("node {node}, npm {npm}");
            let young = numbers(&node).is_some_and(|(major, _)| major >= NODE_MAJOR_MIN);
            if young { Check::ok("node", found) } else { Check::warn("node", found, advice) }
        }
        (Err(problem), _) | (_, Err(problem)) => Check::warn("node", problem, advice),
    }
}

/// Every configured agent; none at all is a failure too.
pub(super) async fn agents(config: &Config) -> Vec<Check> {
    if config.agents.is_empty() {
        let advice = "install one with `agentpool agents install opencode`";
        return vec![Check::fail("agents", "there is none, configured or on PATH", advice)];
    }
    let mut checks = Vec::new();
    for (name, agent) in &config.agents {
        checks.push(agent_check(name, agent, &config.data_dir).await);
    }
    checks
}

async fn agent_check(name: &AgentName, agent: &AgentConfig, data_dir: &Path) -> Check {
    let title = format!("agent {name}");
    if let Err(error) = agent.variables() {
        return Check::fail(title, error.to_string(), format!("correct agents.{name}.env_file"));
    }
    match agent.backend {
        BackendKind::Scripted => scripted(title, name, agent),
        BackendKind::OpencodeServer => opencode_server(title, name, agent, data_dir).await,
        BackendKind::AcpWarm => acp_warm(title, name, agent, data_dir).await,
    }
}

fn scripted(title: String, name: &AgentName, agent: &AgentConfig) -> Check {
    match &agent.scenarios {
        Some(folder) if !folder.is_dir() => {
            let advice = format!("correct agents.{name}.scenarios");
            Check::fail(title, format!("there is no folder {folder:?}"), advice)
        }
        _ => Check::ok(title, "scripted: plays scenarios, no model"),
    }
}

async fn opencode_server(title: String, name: &AgentName, agent: &AgentConfig, data_dir: &Path) -> Check {
    let Some(program) = agent.program(data_dir) else {
        let advice =
            format!("`agentpool agents install opencode`, or set agents.{name}.command to its program");
        let found = match &agent.command {
            Some(command) => format!("{command:?} is not there, or only a launcher without its program"),
            None => "no opencode in the data folder or on PATH".to_owned(),
        };
        return Check::fail(title, found, advice);
    };
    match version_of(&program).await {
        Err(problem) => Check::fail(title, problem, "run it by hand to see what it lacks"),
        Ok(version) => of_version(title, &version, &program, Some(Package::Opencode)),
    }
}

async fn acp_warm(title: String, name: &AgentName, agent: &AgentConfig, data_dir: &Path) -> Check {
    match acp::hello(name, agent, data_dir).await {
        Err(Unheard::Launch(LaunchError::NoProgram { found, advice })) => Check::fail(title, found, advice),
        Err(Unheard::Launch(error)) => {
            Check::fail(title, error.to_string(), format!("correct agents.{name}"))
        }
        Err(Unheard::Said(problem)) => Check::fail(title, problem, "run it by hand to see what it lacks"),
        Ok(Hello { program, version }) => {
            of_version(title, &version, &program, agent.preset.and_then(Preset::package))
        }
    }
}

/// Well, unless there is a version that we test and it is another one.
fn of_version(title: String, version: &str, program: &Path, package: Option<Package>) -> Check {
    let found = format!("{version}, {}", program.display());
    match package {
        Some(package) if package.version() != version => {
            let (tested, word) = (package.version(), package.as_str());
            let advice = format!("agentpool is tested with {tested}: `agentpool agents install {word}`");
            Check::warn(title, found, advice)
        }
        Some(_) | None => Check::ok(title, found),
    }
}

/// The last line that `program --version` prints, or what went wrong.
async fn version_of(program: &Path) -> Result<String, String> {
    let mut command = Command::new(program);
    let env = Environment::allow_listed().set("OPENCODE_DISABLE_AUTOUPDATE", "1");
    command.arg("--version").env_clear().envs(env.vars()).stdin(Stdio::null()).kill_on_drop(true);
    let shown = program.display();
    let output = timeout(VERSION_DEADLINE, command.output())
        .await
        .map_err(|_| {
            format!("{shown} does not say its version within {} seconds", VERSION_DEADLINE.as_secs())
        })?
        .map_err(|error| format!("{shown} cannot be run: {error}"))?;
    let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    match said.lines().last() {
        Some(version) if output.status.success() => Ok(version.to_owned()),
        _ => Err(format!("{shown} --version failed: {}", output.status)),
    }
}

/// The first two numbers of a version: `git version 2.47.3` and `v20.19.2` alike.
fn numbers(text: &str) -> Option<(u32, u32)> {
    let begin = text.find(|c: char| c.is_ascii_digit())?;
    let mut parts = text[begin..].split('.').map(|part| {
        let end = part.find(|c: char| !c.is_ascii_digit()).unwrap_or(part.len());
        part[..end].parse::<u32>().ok()
    });
    Some((parts.next()??, parts.next().flatten().unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    #[test]
    fn versions_are_read_as_programs_print_them() {
        assert_eq!(numbers("git version 2.47.3"), Some((2, 47)));
        assert_eq!(numbers("git version 2.9"), Some((2, 9)));
        assert_eq!(numbers("v20.19.2"), Some((20, 19)));
        assert_eq!(numbers("no version"), None);
        assert!(numbers("git version 2.100.1").unwrap() >= GIT_MIN);
    }

    #[test]
    fn a_data_folder_may_be_missing_but_not_be_a_file() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(data_folder(folder.path()).verdict, Verdict::Ok);
        let missing = data_folder(&folder.path().join("a/b"));
        assert_eq!(missing.verdict, Verdict::Ok);
        assert!(missing.found.contains("will be made") && !folder.path().join("a").exists());
        let file = folder.path().join("file");
        std::fs::write(&file, "").unwrap();
        assert_eq!(data_folder(&file.join("below")).verdict, Verdict::Fail);
    }

    #[tokio::test]
    async fn a_program_that_fails_is_no_version() {
        assert!(version_of(Path::new("false")).await.is_err());
        assert!(version_of(Path::new("/no/such/program")).await.is_err());
    }
}
