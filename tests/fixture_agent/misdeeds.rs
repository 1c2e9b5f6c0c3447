//! What no agent should do.

use crate::agent::Agent;
use crate::directives::number;
use crate::turn::message;
use crate::wire::Out;
use agent_client_protocol::v1::schema::{SessionNotification, SessionUpdate};
use nix::sys::signal::{SigSet, Signal, raise};
use nix::unistd::setsid;
use serde_json::json;
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

/// The argument of a grandchild.
pub const GRANDCHILD: &str = "grandchild";
/// How long a grandchild lives.
const GRANDCHILD_LIFE: Duration = Duration::from_secs(600);

/// Directives that need nothing of the turn but its session.
pub fn commit(agent: &Agent, session: &str, mark: &str, rest: &str) {
    let out = &agent.out;
    match mark {
        "EXIT:" => exit(number(rest)),
        "KILL:" => kill(rest),
        "PARTIAL:" => {
            out.bytes(br#"{"jsonrpc":"2.0","method":"session/update","params":{"sessio"#);
            exit(number(rest));
        }
        "ENDLESS:" => endless(out, number(rest)),
        "GARBAGE" => garbage(out, number(rest)),
        "NOT_UTF8" => out.bytes(b"\xff\xfe{\"jsonrpc\":\xc3\x28}\n"),
        "NUL:" => out.update(session, message(&format!("\u{0}{rest}\u{0}"))),
        "UNKNOWN_ID" => out.value(&json!({"jsonrpc": "2.0", "id": 987_654_321, "result": {}})),
        "FOREIGN:" => out.update("fix_of_nobody", message(rest)),
        "UNKNOWN_UPDATE" => out.value(&json!({
            "jsonrpc": "2.0", "method": "session/update",
            "params": {"sessionId": session, "update": {"sessionUpdate": "weather_report", "sky": "blue"}},
        })),
        "UNANNOUNCED" => out.value(&json!({
            "jsonrpc": "2.0", "method": "session/update",
            "params": {"sessionId": session, "update": {
                "sessionUpdate": "tool_call_update", "toolCallId": "never-announced", "status": "completed",
            }},
        })),
        "GROW:" => grow(number(rest)),
        "STDERR:" => flood_stderr(number(rest)),
        "DEAF" => agent.ears.close(),
        "STOP_SELF" => kill("SIGSTOP"),
        other => eprintln!("fixture-agent: {other} is not played"),
    }
}

pub fn exit(code: u64) -> ! {
    std::process::exit(i32::try_from(code).unwrap_or(1))
}

/// By the signal of that name; `TERM` will do for `SIGTERM`.
fn kill(name: &str) {
    let name = if name.starts_with("SIG") { name.to_owned() } else { format!("SIG{name}") };
    match name.parse::<Signal>() {
        Ok(signal) => {
            let _ = raise(signal);
            if matches!(signal, Signal::SIGSEGV | Signal::SIGBUS) {
                // The runtime's own handler takes the first one, and steps aside.
                let _ = raise(signal);
            }
        }
        Err(error) => eprintln!("fixture-agent: {name}: {error}"),
    }
}

/// Blocks it in this thread and in all that it will start.
pub fn ignore_term() {
    let mut set = SigSet::empty();
    set.add(Signal::SIGTERM);
    if let Err(error) = set.thread_block() {
        eprintln!("fixture-agent: SIGTERM could not be blocked: {error}");
    }
}

pub fn garbage(out: &Out, lines: u64) {
    for n in 0..lines {
        out.line(&format!("npm warn deprecated nothing@{n}: this is no JSON {{"));
    }
}

fn endless(out: &Out, mib: u64) {
    // In one go: another line of ours in the middle would make two of it.
    let mut line = vec![b'x'; usize::try_from(mib << 20).unwrap_or_default()];
    line.push(b'\n');
    out.bytes(&line);
}

pub fn flood_stderr(mib: u64) {
    let line = [b'e'; 1023];
    let mut stderr = std::io::stderr().lock();
    for _ in 0..mib * 1024 {
        let _ = stderr.write_all(&line).and_then(|()| stderr.write_all(b"\n"));
    }
}

/// Until the end: each page is written, so that it is there.
fn grow(mib: u64) {
    let bytes = usize::try_from(mib << 20).unwrap_or_default();
    std::hint::black_box(vec![1_u8; bytes].leak());
}

pub fn crlf(out: &Out, session: &str, update: SessionUpdate) {
    let params = SessionNotification::new(session.to_owned(), update);
    let message = json!({"jsonrpc": "2.0", "method": "session/update", "params": params});
    out.bytes(format!("{message}\r\n").as_bytes());
}

/// A long history, in pieces of 64 KiB.
pub fn replay(out: &Out, session: &str, mib: u64) {
    let piece = "r".repeat(64 << 10);
    for _ in 0..mib * 16 {
        out.update(session, message(&piece));
    }
}

/// Processes that outlive us: in sessions of their own, with our stdout in hand. Returns their ids.
pub fn grandchildren(n: u64) -> Vec<String> {
    let mut pids = Vec::new();
    for _ in 0..n {
        let spawned = Command::new("/proc/self/exe")
            .arg(GRANDCHILD)
            .stdin(Stdio::null())
            .stdout(Stdio::inherit())
            .stderr(Stdio::inherit())
            .spawn();
        match spawned {
            Ok(child) => pids.push(child.id().to_string()),
            Err(error) => eprintln!("fixture-agent: no grandchild: {error}"),
        }
    }
    pids
}

pub fn live_as_grandchild() {
    if let Err(error) = setsid() {
        eprintln!("fixture-agent: {error}");
    }
    std::thread::sleep(GRANDCHILD_LIFE);
}
