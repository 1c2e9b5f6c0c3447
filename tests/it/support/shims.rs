//! Shims of the binary under test, and bash scripts to run under them.

use agentpool::process::{ChildSpec, Environment, Limits, Shims, StdinMode, StopPlan, Timing};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// The binary under test.
pub fn agentpool() -> PathBuf {
    env!("CARGO_BIN_EXE_agentpool").into()
}

/// A mark that no other test has.
pub fn fresh_mark() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("it-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

/// Times that make a test of deadlines short: a word is good for a second and a half.
pub fn hasty() -> Timing {
    Timing {
        beat: Duration::from_millis(100),
        good_for: Duration::from_millis(1500),
        lead_max: Duration::from_millis(500),
    }
}

/// Shims with a mark of their own, and the mark.
pub fn marked_shims() -> (Shims, String) {
    let mark = fresh_mark();
    (Shims::new(agentpool(), mark.clone(), None), mark)
}

/// A bash script as a child: no input, ended by TERM with two seconds of grace.
pub fn script(text: &str) -> ChildSpec {
    ChildSpec {
        name: "script".into(),
        program: "bash".into(),
        args: vec!["-c".into(), text.into()],
        env: Environment::allow_listed(),
        cwd: "/".into(),
        stdin: StdinMode::Null,
        run_as: None,
        stop: StopPlan::Terminate,
        grace: Duration::from_secs(2),
        serves_leases: false,
        limits: Limits::default(),
    }
}
