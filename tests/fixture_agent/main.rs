//! An agent that speaks the Agent Client Protocol (version 1) on its standard streams, does as it is told, and misbehaves
//! when it is told so. For tests alone: it calls no model and nothing outside of its session's folder and `$HOME`.
//!
//! # Directives
//! One a line of the prompt, in any of its text blocks; what takes a text takes the rest of its line. What stands within
//! `<conversation_so_far>…</conversation_so_far>` is passed over: it ran before. Without a directive it echoes.
//!
//! | directive | what it does |
//! |---|---|
//! | `SAY: text`, `THINK: text` | says, or thinks, exactly this |
//! | `SLOW:n` | `tok0 tok1 …`, one each 20 ms |
//! | `SLEEP:ms` | nothing for so long |
//! | `RECALL` | `RECALL n prior user turns: a \| b`: all earlier prompts of the conversation |
//! | `SETTINGS` | `mode=build context=… model=… thought_level=… tone=…` |
//! | `TOOL:write PATH CONTENT` | asks (allow_once, allow_always, reject_once), writes content and a newline in the session's folder |
//! | `TOOL:read PATH` | asks (kind read), says the file's text |
//! | `CLIENT:write PATH CONTENT`, `CLIENT:read PATH` | by the client's fs methods, advertised or not; says `written`, the text or the error |
//! | `TERMINAL: command` | by the client's terminal: create, wait, output, release; says the output and how it ended |
//! | `PLAN`, `COMMANDS`, `MODE:x`, `TITLE: text` | tells a plan, its commands, a mode that it chose, a title |
//! | `ENV NAME`, `PID`, `CWD`, `MCP` | says that variable (or `NAME is unset`), its process id, its folder, its MCP servers |
//! | `EMPTY` | ends the turn without text, tool call, usage or title |
//! | `REFUSE`, `TRUNCATED`, `UNKNOWN_STOP` | ends it as refusal, max_tokens, or with a stop reason that nobody knows |
//! | `FAIL:what`, `FAIL:whatxN` | a JSON-RPC error, always or for the first N times that this prompt came; `what`: see below |
//! | `TEXT_ERROR:what` | the same provider's error told as text, with end_turn and no usage |
//! | `HANG`, `HANG:deaf` | never answers; `deaf`: not even to session/cancel |
//! | `IGNORE_CANCEL`, `LOSE_CANCEL:n` | from here on session/cancel has no effect; the first n have none |
//! | `LATE_CANCEL:ms` | answers a cancel that much later |
//! | `AFTER_CANCEL: text` | says the text 200 ms after the cancelled answer |
//! | `AFTER_END: text` | says the text 200 ms after any answer |
//! | `EXIT:code`, `KILL:SIGNAL` | ends itself there, in the middle of the turn |
//! | `PARTIAL:code` | writes half a message without a newline and exits |
//! | `FLOOD:n` | n text updates `f0 f1 …` as fast as they are taken |
//! | `ENDLESS:n` | a line of n MiB that is no message, then goes on |
//! | `GARBAGE:n` | n lines of no JSON; `GARBAGE` is one |
//! | `NOT_UTF8`, `NUL: text`, `CRLF: text` | a line with bytes of no UTF-8; text with NUL around; an update that ends in CR LF |
//! | `TWICE`, `UNKNOWN_ID` | answers the prompt twice; answers a request that nobody made |
//! | `FOREIGN: text` | says the text in a session that nobody opened |
//! | `UNKNOWN_UPDATE`, `UNANNOUNCED` | an update of an unknown kind; a tool_call_update of a call never announced |
//! | `GRANDCHILDREN:n` | n processes in sessions of their own that hold stdout and live for 10 minutes; says `grandchildren: pid …` |
//! | `STDERR:n` | n MiB to stderr |
//! | `GROW:n` | holds n MiB more from here on |
//! | `DEAF`, `STOP_SELF` | reads stdin no more; stops itself by SIGSTOP |
//!
//! `what` is `429`, `429@SECS` (with a time to try again), `usage@SECS` (a plan's limit with a time of reset), `401`, `auth`
//! (−32000), `400`, `500`, `overflow`, `model`; all but `auth` are −32603 with the provider's words in `data`.
//!
//! # `FIXTURE=word,word=value`: what happens without a prompt
//! | word | what it does |
//! |---|---|
//! | `exit=code` | exits at once |
//! | `banner` | three lines of no JSON before the first message |
//! | `stderr=n` | n MiB to stderr at the start |
//! | `grandchildren=n` | as the directive, at the start |
//! | `ignore_term` | SIGTERM has no effect |
//! | `stay` | does not exit when stdin is closed |
//! | `hang_STEP`, `error_STEP`, `exit_STEP=code`, `slow_STEP=ms` | at `initialize`, `new`, `load`, `resume`, `close`, `prompt`, `set_mode`, `set_option` |
//! | `hang_cancel` | after a session/cancel the turn says nothing more and is never answered |
//! | `ignore_cancel`, `lose_cancel=n` | as the directives, for every turn |
//! | `v2` | answers protocol version 2 |
//! | `auth` | −32000 at session/new, load and resume until `authenticate` was called |
//! | `no_load`, `no_resume`, `no_close`, `no_list` | does not offer it, and answers −32601 |
//! | `lie_load`, `lie_resume` | offers it, and answers −32601 |
//! | `fail_load`, `fail_resume` | offers it, and answers −32603 |
//! | `replay_mb=n` | a load replays n MiB more |
//! | `no_modes`, `no_options` | offers none |
//! | `legacy_models` | no options; `models` in the answer to session/new, and `session/set_model` |
//! | `commands_ms=n` | tells its commands that long after session/new, load and resume (20) |
//! | `spin_up=ms` | sleeps before it reads anything |

mod agent;
mod client_side;
mod directives;
mod faults;
mod misdeeds;
mod provider;
mod session;
mod settings;
mod store;
mod tools;
mod turn;
mod wire;

use agent_client_protocol::{Agent as AgentRole, Builder, Client, ConnectionTo, Dispatch, Lines};
use faults::Faults;
use std::sync::Arc;
use std::time::Duration;
use wire::{Ears, Out};

fn main() {
    let mut arguments = std::env::args().skip(1);
    if arguments.next().as_deref() == Some(misdeeds::GRANDCHILD) {
        return misdeeds::live_as_grandchild();
    }
    let faults = Faults::from_environment();
    if let Some(code) = faults.number("exit") {
        misdeeds::exit(code);
    }
    // Signals are blocked or not by the thread that starts the others.
    if faults.has("ignore_term") {
        misdeeds::ignore_term();
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(4)
        .enable_all()
        .build()
        .expect("a runtime can be made");
    runtime.block_on(serve(faults));
    // A turn that hangs in a write must not keep the process.
    std::process::exit(0);
}

async fn serve(faults: Faults) {
    let (out, ears) = (Out::new(), Ears::default());
    if let Some(wait) = faults.number("spin_up") {
        tokio::time::sleep(Duration::from_millis(wait)).await;
    }
    if faults.has("banner") {
        misdeeds::garbage(&out, 3);
    }
    if let Some(mib) = faults.number("stderr") {
        misdeeds::flood_stderr(mib);
    }
    if let Some(n) = faults.number("grandchildren") {
        misdeeds::grandchildren(n);
    }
    let transport = Lines::new(Box::pin(out.sink()), Box::pin(ears.lines(faults.has("stay"))));
    let agent = Arc::new(agent::Agent::new(out, ears, faults));
    // The raw builder: one that checks versions could not answer a wrong one.
    let served = Builder::new(AgentRole)
        .name("fixture-agent")
        .on_receive_dispatch(
            async move |message: Dispatch, client: ConnectionTo<Client>| agent.hear(message, &client),
            agent_client_protocol::on_receive_dispatch!(),
        )
        .connect_to(transport)
        .await;
    if let Err(error) = served {
        eprintln!("fixture-agent: {error}");
    }
}
