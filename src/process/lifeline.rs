//! The words that travel on the lifeline between us and a shim: one packet each, as text. Pure; the socket is elsewhere.

use super::child::ChildExit;
use crate::domain::turn::StopForce;

/// Longer packets do not exist.
pub(super) const PACKET_BYTES_MAX: usize = 128;

/// What we tell the shim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// Live until then (milliseconds of the child's clock); then begin to stop.
    Until(i64),
    /// Stop now, this hard.
    Stop(StopForce),
}

/// What the shim tells us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Report {
    /// The child runs.
    Started {
        /// Its pid.
        pid: u32,
    },
    /// It could not be started; `errno` is the system's reason.
    Failed {
        /// As in `errno.h`.
        errno: i32,
    },
    /// It ended; the rest of its tree is being killed.
    Exited(ChildExit),
}

impl Order {
    pub(super) fn encode(self) -> String {
        match self {
            Self::Until(at) => format!("until {at}"),
            Self::Stop(StopForce::Ask | StopForce::Terminate) => "stop plan".to_owned(),
            Self::Stop(StopForce::Kill) => "stop kill".to_owned(),
        }
    }

    pub(super) fn decode(packet: &[u8]) -> Option<Self> {
        match str::from_utf8(packet).ok()?.split_once(' ')? {
            ("until", at) => at.parse().ok().map(Self::Until),
            ("stop", "plan") => Some(Self::Stop(StopForce::Terminate)),
            ("stop", "kill") => Some(Self::Stop(StopForce::Kill)),
            _ => None,
        }
    }
}

impl Report {
    pub(super) fn encode(self) -> String {
        match self {
            Self::Started { pid } => format!("started {pid}"),
            Self::Failed { errno } => format!("failed {errno}"),
            Self::Exited(ChildExit::Code(code)) => format!("code {code}"),
            Self::Exited(ChildExit::Signal(signal)) => format!("signal {signal}"),
            Self::Exited(ChildExit::OverMemory) => "over_memory 0".to_owned(),
            Self::Exited(ChildExit::Unknown) => "unknown 0".to_owned(),
        }
    }

    pub(super) fn decode(packet: &[u8]) -> Option<Self> {
        let (word, number) = str::from_utf8(packet).ok()?.split_once(' ')?;
        Some(match word {
            "started" => Self::Started { pid: number.parse().ok()? },
            "failed" => Self::Failed { errno: number.parse().ok()? },
            "code" => Self::Exited(ChildExit::Code(number.parse().ok()?)),
            "signal" => Self::Exited(ChildExit::Signal(number.parse().ok()?)),
            "over_memory" => Self::Exited(ChildExit::OverMemory),
            "unknown" => Self::Exited(ChildExit::Unknown),
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_survives_the_wire() {
        for order in [Order::Until(-5), Order::Stop(StopForce::Terminate), Order::Stop(StopForce::Kill)] {
            assert_eq!(Order::decode(order.encode().as_bytes()), Some(order));
        }
        let exits = [ChildExit::Code(3), ChildExit::Signal(9), ChildExit::OverMemory, ChildExit::Unknown];
        let exits = exits.map(Report::Exited);
        for report in [Report::Started { pid: 7 }, Report::Failed { errno: 2 }].into_iter().chain(exits) {
            assert_eq!(Report::decode(report.encode().as_bytes()), Some(report));
        }
        assert_eq!(Order::decode(b"until soon"), None);
        assert_eq!(Report::decode(b"\xff"), None);
    }
}
