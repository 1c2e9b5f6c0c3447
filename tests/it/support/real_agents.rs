//! Real agents that speak ACP, pinned, offline: each in a home of its own, with a scripted model in place of its provider.
#![allow(dead_code, reason = "claude and gemini are run by tests/agents, and a benchmark uses more")]

use super::acp::acp_config;
use super::conformance::{Subject, new_git_worktree};
use super::opencode::model_config;
use super::shims::marked_shims;
use agentpool::backend::AgentBackend;
use agentpool::backend::acp::{AcpBackend, AcpConfig, Sharing};
use agentpool::install::{Package, Quiet, install};
use agentpool::process::Shims;
use agentpool::scripted_model::ScriptedModel;
use async_trait::async_trait;
use serde_json::json;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tempfile::TempDir;

/// Which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    Opencode,
    Codex,
    Claude,
    Gemini,
}

/// A real agent.
pub struct RealAgent {
    pub which: Which,
    pub folder: TempDir,
    pub model: ScriptedModel,
    pub shims: Shims,
    pub mark: String,
    pub config: AcpConfig,
    backend: Mutex<Arc<dyn AgentBackend>>,
}

impl Which {
    fn package(self) -> Package {
        match self {
            Self::Opencode => Package::Opencode,
            Self::Codex => Package::Codex,
            Self::Claude => Package::Claude,
            Self::Gemini => Package::Gemini,
        }
    }
}

impl RealAgent {
    /// Another backend in the place of the first, which has started nothing.
    pub fn replace(&self, backend: Arc<dyn AgentBackend>) {
        *self.backend.lock().unwrap() = backend;
    }

    /// A model that it offers besides the one that it begins with, and a mode.
    pub fn other_choices(&self) -> (&'static str, Option<&'static str>) {
        match self.which {
            Which::Opencode => ("local/other", Some("plan")),
            Which::Codex => ("gpt-5.4-mini", None),
            Which::Claude => ("haiku", Some("plan")),
            Which::Gemini => ("gemini-2.5-pro", Some("plan")),
        }
    }

    /// Installed if need be; nothing runs yet. One process a conversation, or one for all.
    pub async fn new(which: Which, sharing: Sharing) -> Self {
        let agents = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/agents");
        fs::create_dir_all(&agents).unwrap();
        let installed = install(which.package(), &agents, &Quiet)
            .await
            .expect("the tests need node and npm on this machine");
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().canonicalize().unwrap();
        let model = ScriptedModel::start(0).unwrap();
        let mut config = acp_config(&format!("{which:?}").to_lowercase(), &installed.program, &home);
        config.args = installed.args;
        config.client_tools = false;
        config.sharing = sharing;
        prepare(which, &home, &model, &mut config);
        let (shims, mark) = marked_shims();
        let backend =
            Mutex::new(Arc::new(AcpBackend::new(config.clone(), shims.clone())) as Arc<dyn AgentBackend>);
        Self { which, folder, model, shims, mark, config, backend }
    }
}

/// What makes an agent run without network and keys, and ask before it writes.
fn prepare(which: Which, home: &Path, model: &ScriptedModel, config: &mut AcpConfig) {
    let port = model.port();
    let mut set = |name: &str, value: String| config.env.push((name.to_owned(), value));
    set("NO_BROWSER", "1".into());
    match which {
        Which::Opencode => {
            for name in ["AUTOUPDATE", "MODELS_FETCH", "LSP_DOWNLOAD", "DEFAULT_PLUGINS"] {
                set(&format!("OPENCODE_DISABLE_{name}"), "1".into());
            }
            let mut settings: serde_json::Value =
                serde_json::from_str(&model_config(&model.base_url())).unwrap();
            settings["permission"] = json!({"edit": "ask", "bash": "ask"});
            // As the preset has it.
            settings["snapshot"] = json!(false);
            set("BUN_JSC_forceRAMSize", (1_u64 << 30).to_string());
            set("OPENCODE_CONFIG_CONTENT", settings.to_string());
            config.args.push("acp".into());
        }
        Which::Codex => {
            let own = home.join("codex");
            fs::create_dir_all(&own).unwrap();
            let settings = format!(
                "model = \"gpt-5.4\"\nmodel_provider = \"scripted\"\napproval_policy = \"untrusted\"\n\
                 sandbox_mode = \"danger-full-access\"\ncheck_for_update_on_startup = false\n\
                 [model_providers.scripted]\nname = \"S\"\nbase_url = \"http://127.0.0.1:{port}/v1\"\n\
                 env_key = \"CODEX_API_KEY\"\nwire_api = \"responses\"\nrequest_max_retries = 2\n\
                 stream_max_retries = 2\n[analytics]\nenabled = false\n"
            );
            fs::write(own.join("config.toml"), settings).unwrap();
            set("CODEX_HOME", own.display().to_string());
            set("CODEX_API_KEY", "sk-fake".into());
            set("OPENAI_API_KEY", "sk-fake".into());
        }
        Which::Claude => {
            set("ANTHROPIC_BASE_URL", format!("http://127.0.0.1:{port}"));
            set("ANTHROPIC_API_KEY", "sk-ant-fake".into());
            set("CLAUDE_CONFIG_DIR", home.join("claude").display().to_string());
            for name in
                ["CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "DISABLE_AUTOUPDATER", "DISABLE_TELEMETRY"]
            {
                set(name, "1".into());
            }
        }
        Which::Gemini => {
            let settings = json!({
                "security": {"auth": {"selectedType": "gemini-api-key"}, "folderTrust": {"enabled": false}},
                "general": {"enableAutoUpdate": false}, "privacy": {"usageStatisticsEnabled": false},
                "telemetry": {"enabled": false},
            });
            fs::create_dir_all(home.join(".gemini")).unwrap();
            fs::write(home.join(".gemini/settings.json"), settings.to_string()).unwrap();
            set("GEMINI_API_KEY", "fake".into());
            set("GOOGLE_GEMINI_BASE_URL", format!("http://127.0.0.1:{port}"));
            set("GEMINI_CLI_HOME", home.display().to_string());
            set("GEMINI_CLI_TRUST_WORKSPACE", "true".into());
            config.args.push("--acp".into());
        }
    }
}

#[async_trait]
impl Subject for RealAgent {
    fn backend(&self) -> Arc<dyn AgentBackend> {
        Arc::clone(&self.backend.lock().unwrap())
    }

    async fn restart(&self) {
        self.backend().dispose(Duration::from_secs(5)).await;
        *self.backend.lock().unwrap() = Arc::new(AcpBackend::new(self.config.clone(), self.shims.clone()));
    }

    fn worktree(&self) -> PathBuf {
        new_git_worktree(&self.folder.path().canonicalize().unwrap())
    }

    fn recovers(&self) -> bool {
        false
    }

    /// Gemini finds a conversation again only when a minute has passed since it began.
    fn resumes_at_once(&self) -> bool {
        self.which != Which::Gemini
    }

    fn tells_tokens(&self) -> bool {
        self.which != Which::Codex
    }
}
