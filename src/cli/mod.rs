//! The command line. A client command speaks HTTP like anyone else and never touches the database or a worktree; only
//! `serve`, `demo`, `scripted-model`, `agents install` and `doctor` do work on this machine.

mod agents;
mod cancel;
mod changes;
mod checkpoints;
mod client;
mod config_check;
mod demo;
mod doctor;
mod error;
mod follow;
mod output;
mod permission;
mod permission_rule;
mod permissions;
mod pool;
mod project;
mod scripted_model;
mod serve;
mod session;
mod sessions;
mod submit;
mod tail;
mod task;
mod task_explain;
mod tasks;
mod token;
mod transcript;
mod usage;

pub use client::ClientArgs;
pub use error::{CliError, Exit};

use clap::{Parser, Subcommand};
use std::ffi::OsString;
use std::future::Future;
use std::io;
use std::process::ExitCode;

const EXIT_CODES: &str = "\
Exit codes: 0 done · 1 fault · 2 usage · 3 the task failed or was cancelled · 4 not found or conflict ·
69 no service answers · 78 configuration · 130 interrupted while following

First steps:
  agentpool doctor                     what is missing on this machine
  agentpool serve                      start the service
  agentpool submit --follow 'fix it'   a task on the repository of this folder";

/// Keeps coding agents warm and feeds them from a Postgres queue.
#[derive(Parser, Debug)]
#[command(version, about, after_help = EXIT_CODES, propagate_version = true, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Run the service: queue, agents and API
    Serve(serve::ServeArgs),
    /// Show it all on a scratch repository, with a model that needs no key
    Demo(demo::DemoArgs),
    /// Give an agent a task
    Submit(submit::SubmitArgs),
    /// Show what happens in a task or a session, from its beginning and as it goes on
    Tail(tail::TailArgs),
    /// List tasks, newest first
    Tasks(tasks::TasksArgs),
    /// Show one task, explain it or put it in again
    Task(task::TaskArgs),
    /// Cancel a task
    Cancel(cancel::CancelArgs),
    /// List sessions, newest first
    Sessions(sessions::SessionsArgs),
    /// Make, show or close a session
    Session(session::SessionArgs),
    /// List what agents ask a person
    Permissions(permissions::PermissionsArgs),
    /// Answer what an agent asks, or make standing rules for it
    Permission(permission::PermissionArgs),
    /// List the changes of a session, apply them to your repository, or take them back
    Changes(changes::ChangesArgs),
    /// List the saved states of a session's files, or go back to one
    Checkpoints(checkpoints::CheckpointsArgs),
    /// Make, list or revoke tokens of the API
    Token(token::TokenArgs),
    /// Show what turns used
    Usage(usage::UsageArgs),
    /// Show the warm agents
    Pool(pool::PoolArgs),
    /// List the agents of the service, or install one
    Agents(agents::AgentsArgs),
    /// Look for what is missing or broken on this machine
    Doctor(doctor::DoctorArgs),
    /// Look at the configuration
    Config(config_check::ConfigCommandArgs),
    /// Serve a model that does as it is told, for tests and trials of agents
    ScriptedModel(scripted_model::ScriptedModelArgs),
}

/// Parses the arguments, runs the command, tells its error, and answers with its exit code.
pub fn main() -> ExitCode {
    let json = asks_for_json(std::env::args_os().skip(1));
    if json {
        output::be_silent();
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) if json && error.use_stderr() => {
            let words = error.render().to_string();
            let words = words.trim().trim_start_matches("error: ").to_owned();
            output::complain_json(&CliError::Usage(words).problem());
            return Exit::Usage.into();
        }
        Err(error) => {
            // Help and version are "errors" of clap's too, for stdout and with exit code 0. A closed stream is no fault.
            let _ = error.print();
            return if error.use_stderr() { Exit::Usage.into() } else { Exit::Done.into() };
        }
    };
    match run(cli.command) {
        Ok(exit) => exit.into(),
        Err(CliError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => Exit::Done.into(),
        Err(error) => {
            if json {
                output::complain_json(&error.problem());
            } else {
                output::complain(&error.to_string());
            }
            error.exit().into()
        }
    }
}

/// Known before the arguments are understood: what does not understand them is told as JSON too.
fn asks_for_json(args: impl Iterator<Item = OsString>) -> bool {
    args.take_while(|arg| arg != "--").any(|arg| arg == "--json")
}

fn run(command: Command) -> Result<Exit, CliError> {
    match command {
        Command::Serve(args) => on_all_cores(serve::run(args)),
        Command::Demo(args) => on_all_cores(demo::run(args)),
        Command::Submit(args) => on_one_core(submit::run(args)),
        Command::Tail(args) => on_one_core(tail::run(args)),
        Command::Tasks(args) => on_one_core(tasks::run(args)),
        Command::Task(args) => on_one_core(task::run(args)),
        Command::Cancel(args) => on_one_core(cancel::run(args)),
        Command::Sessions(args) => on_one_core(sessions::run(args)),
        Command::Session(args) => on_one_core(session::run(args)),
        Command::Permissions(args) => on_one_core(permissions::run(args)),
        Command::Permission(args) => on_one_core(permission::run(args)),
        Command::Usage(args) => on_one_core(usage::run(args)),
        Command::Token(args) => on_one_core(token::run(args)),
        Command::Changes(args) => on_one_core(changes::run(args)),
        Command::Checkpoints(args) => on_one_core(checkpoints::run(args)),
        Command::Pool(args) => on_one_core(pool::run(args)),
        Command::Agents(args) => on_one_core(agents::run(args)),
        Command::Doctor(args) => on_one_core(doctor::run(args)),
        Command::Config(args) => config_check::run(args),
        Command::ScriptedModel(args) => on_one_core(scripted_model::run(args)),
    }
}

fn on_all_cores(work: impl Future<Output = Result<Exit, CliError>>) -> Result<Exit, CliError> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.map_err(CliError::Runtime)?.block_on(work)
}

fn on_one_core(work: impl Future<Output = Result<Exit, CliError>>) -> Result<Exit, CliError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(CliError::Runtime)?.block_on(work)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_grammar_holds_together() {
        Cli::command().debug_assert();
    }
}
