//! The secrets that an agent's configuration gives it. What `config check` hides is among them.

use super::{AgentConfig, ConfigError};
use crate::domain::redaction::{name_says_secret, of_address, of_header, of_variable};

impl AgentConfig {
    /// Values that must not be stored when the agent says them: those of its variables and of its MCP servers', what its servers'
    /// addresses and headers let in with, and what follows an argument that says so (`--token x`, `--api-key=x`).
    ///
    /// # Errors
    /// When the file of its variables cannot be read.
    pub fn secrets(&self) -> Result<Vec<String>, ConfigError> {
        let variables = self.variables()?;
        let servers = self.mcp_servers.iter();
        let given = servers.clone().flat_map(|server| &server.env).chain(&variables);
        let mut secrets: Vec<String> = given.flat_map(|(name, value)| of_variable(name, value)).collect();
        let headers = servers.clone().flat_map(|server| &server.headers);
        secrets.extend(headers.flat_map(|(name, value)| of_header(name, value)));
        secrets.extend(servers.clone().filter_map(|server| server.url.as_deref()).flat_map(of_address));
        for args in servers.map(|server| &server.args).chain([&self.args]) {
            secrets.extend(of_arguments(args));
        }
        Ok(secrets)
    }
}

fn of_arguments(args: &[String]) -> Vec<String> {
    let mut secrets: Vec<String> = args.iter().flat_map(|arg| of_address(arg)).collect();
    let named = |arg: &str| arg.starts_with('-') && name_says_secret(arg);
    for (n, arg) in args.iter().enumerate() {
        match arg.split_once('=') {
            Some((name, value)) if named(name) => secrets.push(value.to_owned()),
            None if named(arg) => secrets.extend(args.get(n + 1).cloned()),
            Some(_) | None => {}
        }
    }
    secrets
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_place_of_a_configuration_where_secrets_are_put_is_read() {
        let agent: AgentConfig = serde_json::from_value(serde_json::json!({
            "backend": "acp_warm", "command": "x", "args": ["--api-key", "s3cret-0", "--token=s3cret-1", "--model", "ordinary"],
            "env": {"KEY": "s3cret-2", "PATH": "/ordinary/bin", "MODEL": "ordinary-1"},
            "mcp_servers": [
                {"name": "a", "command": "x", "args": ["postgres://u:s3cret-3@h/d"], "env": {"K_TOKEN": "s3cret-4"}},
                {"name": "b", "url": "https://s3cret-5@host/ordinary?key=s3cret-6", "headers": {"Authorization": "Bearer s3cret-7"}}
            ]
        }))
        .unwrap();
        let secrets = agent.secrets().unwrap();
        for n in 0..8 {
            assert!(secrets.contains(&format!("s3cret-{n}")), "{n}: {secrets:?}");
        }
        assert!(!secrets.iter().any(|secret| secret.contains("ordinary")), "{secrets:?}");
    }
}
