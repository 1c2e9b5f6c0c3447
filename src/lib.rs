//! agentpool keeps coding agents warm and feeds them from a Postgres queue.
//!
//! # Glossary
//! *workspace* the tenant · *project* a git repository · *session* one line of work on one project, owns one worktree ·
//! *agent* a configured way to run a coding agent · *agent session* the pair (session, agent): one conversation ·
//! *task* one prompt, a row of the queue · *turn* one execution of a task · *lane* the session seen from the queue ·
//! *lease, fence* the right to run a lane's head, and the number that proves it · *slot* the place of one agent session
//! in the pool · *runtime* one agent on one node · *node, incarnation* an installation, and one start of it · *home* the
//! node that holds a session's worktree · *change* one file changed by one turn · *checkpoint* a commit of the worktree ·
//! *standing rule* what a person allowed or forbade for more than one question of an agent.
//!
//! # The path of one task
//! row → listener → dispatcher → executor → rows. Somebody INSERTs into `agentpool.tasks`; the commit carries
//! `NOTIFY tasks_new`; the [`store`]'s listener wakes the [`dispatch`]er, which admits and claims as many lanes as it has
//! free hands; an executor makes the worktree ([`worktree`]), saves a checkpoint, checks a slot out of the [`pool`],
//! prompts its [`backend`], streams events, without the agent's secrets, into the event log, stores output and changes under its fence and finishes.
//!
//! # Who imports whom
//! `tests/it/house.rs` reads this table and fails on a breach. A room may also use itself and `domain`.
//! ```text
//! wire              : domain
//! shutdown          : domain
//! failpoint         : domain
//! pulse             : process
//! process           : domain
//! install           : process
//! embedded_postgres : process install
//! worktree          : process install
//! backend           : process install
//! store             : wire
//! pool              : backend worktree
//! dispatch          : pool backend worktree shutdown failpoint pulse
//! dispatch/pg_source: store wire dispatch
//! http              : store wire shutdown
//! scripted_model    : domain shutdown
//! telemetry         : config
//! config            : install
//! cli               : wire process install embedded_postgres config shutdown telemetry scripted_model app
//! app               : wire process install embedded_postgres worktree backend store pool dispatch http config shutdown telemetry pulse
//! main              : cli process
//! ```

pub mod app;
pub mod backend;
pub mod cli;
pub mod config;
pub mod dispatch;
pub mod domain;
pub mod embedded_postgres;
pub mod failpoint;
pub mod http;
pub mod install;
pub mod pool;
pub mod process;
pub mod pulse;
pub mod scripted_model;
pub mod shutdown;
pub mod store;
pub mod telemetry;
pub mod wire;
pub mod worktree;
