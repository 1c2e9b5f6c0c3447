//! What opencode is told by its environment. Reads nothing of it back, and starts nothing.

use super::client::Password;
use super::{OpencodeConfig, OpencodePermission};
use crate::backend::circuit::StartError;
use crate::process::Environment;
use serde_json::{Value, json};

/// opencode's runtime lets its heap grow by the memory that it believes the machine has. Told less, it collects earlier
/// (measured, 20 sessions one after another: 1,012 in place of 1,226 MB, and no slower).
const HEAP_VARIABLE: &str = "BUN_JSC_forceRAMSize";
const HEAP_BYTES: u64 = 1 << 30;

/// The environment: an allow-list, the agent's own settings, and the password last.
pub(super) fn environment(config: &OpencodeConfig, password: &Password) -> Result<Environment, StartError> {
    let mut env = config
        .home
        .environment()
        .set("OPENCODE_DISABLE_AUTOUPDATE", "1")
        .set(HEAP_VARIABLE, HEAP_BYTES.to_string())
        .set("OPENCODE_PERMISSION", config.permission.as_json().to_string());
    for (name, value) in &config.env {
        env = env.set(name, value);
    }
    let given = config.env.iter().rev().find(|(name, _)| name == "OPENCODE_CONFIG_CONTENT");
    let content = config_content(given.map_or("{}", |(_, value)| value))?;
    Ok(env.set("OPENCODE_CONFIG_CONTENT", content).set("OPENCODE_SERVER_PASSWORD", password.reveal()))
}

/// opencode's own snapshots are switched off (measured: a warm turn takes 0.10 s in place of 0.13 s): the
/// worktree's checkpoints do their work. A configuration that asks for them keeps them.
fn config_content(given: &str) -> Result<String, StartError> {
    let bad =
        |cause: &str| StartError::Incompatible(format!("OPENCODE_CONFIG_CONTENT is no JSON object: {cause}"));
    let mut content: Value = serde_json::from_str(given).map_err(|error| bad(&error.to_string()))?;
    let fields = content.as_object_mut().ok_or_else(|| bad("write it as {…}"))?;
    fields.entry("snapshot").or_insert(Value::Bool(false));
    Ok(content.to_string())
}

impl OpencodePermission {
    /// What opencode reads in `OPENCODE_PERMISSION`; it beats its configuration files (measured on 1.18.33).
    fn as_json(self) -> Value {
        let word = match self {
            Self::Ask => "ask",
            Self::Allow => "allow",
        };
        json!({ "edit": word, "bash": word, "webfetch": word, "external_directory": word, "doom_loop": word })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn snapshots_are_off_unless_asked_for() {
        assert_eq!(config_content("{}").unwrap(), r#"{"snapshot":false}"#);
        assert_eq!(config_content(r#"{"snapshot":true}"#).unwrap(), r#"{"snapshot":true}"#);
        assert!(matches!(config_content("[]"), Err(StartError::Incompatible(_))));
    }
}
