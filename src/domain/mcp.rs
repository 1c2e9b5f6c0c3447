//! The MCP servers that an agent is told of.

use std::path::PathBuf;

/// A server as an agent is told of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct McpServer {
    /// Its name.
    pub name: String,
    /// How it is reached.
    pub transport: McpTransport,
}

/// How an MCP server is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum McpTransport {
    /// The agent starts it.
    Stdio {
        /// Absolute path.
        command: PathBuf,
        /// Its arguments.
        args: Vec<String>,
        /// Variables; secrets.
        env: Vec<(String, String)>,
    },
    /// By HTTP.
    Http {
        /// Where.
        url: String,
        /// Sent with each request; secrets.
        headers: Vec<(String, String)>,
    },
    /// By server-sent events.
    Sse {
        /// Where.
        url: String,
        /// Sent with each request; secrets.
        headers: Vec<(String, String)>,
    },
}
