//! The nouns of the field and their laws, as pure data and pure functions.
//! No I/O, no tokio, no SQL, no wire format: everything here can be tested with values alone.

pub mod access;
pub mod agent;
pub mod catalogue;
pub mod change;
pub mod checkpoint;
pub mod clone_url;
pub mod failure;
pub mod ids;
pub mod mcp;
pub mod measure;
pub mod permission;
pub mod permission_rule;
pub mod redaction;
pub mod retry;
pub mod session;
pub mod story;
pub mod task;
pub mod text;
pub mod tool_output;
pub mod tool_use;
pub mod turn;
pub mod usage;
pub mod waiting;
