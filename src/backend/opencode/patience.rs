//! How long is waited before a server counts as dead or worn out, and a provider as gone. Numbers only.

use std::time::Duration;

/// The bounds of a server. The defaults are for opencode as it is; tests come with shorter ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Patience {
    /// Silence after which the event stream is opened anew. opencode sends a heartbeat every 10 s: two missed and a half.
    pub stream_silence: Duration,
    /// Silence after which the server is asked whether it lives. A stopped process still accepts connections.
    pub probe_after: Duration,
    /// How long an answer to that may take, and so the time from one unanswered probe to the next.
    pub probe_deadline: Duration,
    /// Unanswered probes in a row after which a server that does nothing at all is lost: 20 s after its last word, with
    /// the defaults.
    pub probes_max: u32,
    /// The same for one that works: it may be starved. On a machine with six ready processes a core, starting three
    /// directories at once was seen to keep opencode from answering for 20 s.
    pub probes_busy_max: u32,
    /// Tries of a provider in a row after which a turn ends; opencode itself never gives up. Its waits are 2, 4, 8, 16 and
    /// then 30 s, so eight take some two minutes.
    pub provider_tries_max: u32,
    /// The longest wait for a provider that a turn sits out. What is longer (a quota that opens in hours) waits in the
    /// queue, where it holds no hand.
    pub provider_wait_max: Duration,
    /// Between two looks at how much memory the server holds. A look reads `/proc` once.
    pub memory_look: Duration,
    /// How long new turns wait for the running ones to end, once the server holds too much. Not for ever: a running one
    /// may itself wait for a person, or for the hand that a new one has.
    pub hold: Duration,
    /// How long new turns go on after a hold that was in vain, if no gap between turns comes sooner.
    pub hold_again: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            stream_silence: Duration::from_secs(25),
            probe_after: Duration::from_secs(5),
            probe_deadline: Duration::from_secs(5),
            probes_max: 3,
            probes_busy_max: 18,
            provider_tries_max: 8,
            provider_wait_max: Duration::from_secs(120),
            memory_look: Duration::from_secs(10),
            hold: Duration::from_secs(30),
            hold_again: Duration::from_secs(300),
        }
    }
}
