//! One test process for everything that needs real parts: a Postgres cluster and an agent server are shared.

mod support;

mod embedded_postgres;
mod house;
mod install;
mod opencode_translator;
mod process;
mod scripted_model;
mod worktree;
