//! The MCP servers of an agent as they are configured. Starts none.

use crate::domain::mcp::{McpServer, McpTransport};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// One server as it is written: a program, or an address.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct McpServerConfig {
    /// What the agent calls it.
    pub name: String,
    /// A program: a path, or a name on `PATH`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<PathBuf>,
    /// Its arguments.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// Its variables. Values are secrets.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// An address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// What is sent with each request. Values are secrets.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// What is spoken at the address; none is http.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub speaks: Option<McpWord>,
}

/// What is spoken at an address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum McpWord {
    /// Streamable HTTP.
    #[default]
    Http,
    /// HTTP with server-sent events, the older way.
    Sse,
}

impl McpServerConfig {
    /// How it is reached, with the absolute path that `find` knows for a command; none when it knows none.
    pub(super) fn resolve(&self, find: impl FnOnce(&PathBuf) -> Option<PathBuf>) -> Option<McpServer> {
        let pairs = |map: &BTreeMap<String, String>| map.clone().into_iter().collect();
        let transport = match (&self.command, &self.url, self.speaks.unwrap_or_default()) {
            (Some(command), _, _) => McpTransport::Stdio {
                command: find(command)?,
                args: self.args.clone(),
                env: pairs(&self.env),
            },
            (None, Some(url), McpWord::Http) => {
                McpTransport::Http { url: url.clone(), headers: pairs(&self.headers) }
            }
            (None, Some(url), McpWord::Sse) => {
                McpTransport::Sse { url: url.clone(), headers: pairs(&self.headers) }
            }
            (None, None, _) => return None,
        };
        Some(McpServer { name: self.name.clone(), transport })
    }

    /// What is wrong with it.
    fn problem(&self) -> Option<&'static str> {
        let is_address = |url: &String| url.starts_with("http://") || url.starts_with("https://");
        match (&self.command, &self.url) {
            _ if self.name.trim().is_empty() => Some("give it a `name`"),
            (Some(_), Some(_)) => Some("name either a `command` or a `url`, not both"),
            (None, None) => Some("name its `command`, or the `url` where it listens"),
            (Some(_), None) if !self.headers.is_empty() || self.speaks.is_some() => {
                Some("`headers` and `type` belong to a `url`")
            }
            (None, Some(_)) if !self.args.is_empty() || !self.env.is_empty() => {
                Some("`args` and `env` belong to a `command`")
            }
            (None, Some(url)) if !is_address(url) => Some("write its `url` as http://… or https://…"),
            (Some(_), None) | (None, Some(_)) => None,
        }
    }
}

/// What is wrong with the first bad one of a list, and which it is.
pub(super) fn first_problem(servers: &[McpServerConfig]) -> Option<String> {
    let mut names = BTreeSet::new();
    servers.iter().enumerate().find_map(|(n, server)| {
        let problem = server
            .problem()
            .or_else(|| (!names.insert(&server.name)).then_some("two servers cannot have one name"))?;
        let which = if server.name.is_empty() { format!("number {}", n + 1) } else { server.name.clone() };
        Some(format!("MCP server {which}: {problem}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(json: serde_json::Value) -> McpServerConfig {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn a_server_is_a_program_or_an_address() {
        use serde_json::json;
        for (json, wanted) in [
            (json!({"command": "x"}), "number 1: give it a `name`"),
            (json!({"name": "a"}), "a: name its `command`"),
            (json!({"name": "a", "command": "x", "url": "http://x"}), "not both"),
            (json!({"name": "a", "command": "x", "type": "sse"}), "belong to a `url`"),
            (json!({"name": "a", "url": "http://x", "env": {"A": "1"}}), "belong to a `command`"),
            (json!({"name": "a", "url": "x:1"}), "https://"),
        ] {
            let said = first_problem(&[server(json)]).unwrap();
            assert!(said.contains(wanted), "{said}");
        }
        let fine = server(json!({"name": "a", "url": "https://x", "headers": {"A": "1"}}));
        assert_eq!(first_problem(std::slice::from_ref(&fine)), None);
        assert!(first_problem(&[fine.clone(), fine.clone()]).unwrap().contains("one name"));
        let headers = vec![("A".to_owned(), "1".to_owned())];
        let transport = McpTransport::Http { url: "https://x".into(), headers };
        assert_eq!(fine.resolve(|_| None), Some(McpServer { name: "a".into(), transport }));
        let program = server(json!({"name": "b", "command": "x"}));
        assert_eq!(program.resolve(|_| None), None);
        assert!(program.resolve(|_| Some("/bin/x".into())).is_some());
    }
}
