//! Agents that are to run no turn until some moment: their provider said when it will take requests again. In memory only: after
//! a restart the first turn finds out anew, and costs its task nothing.

use crate::domain::agent::AgentName;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// Longest time that an agent is parked for, whatever its provider says.
pub const PARKED_MAX: Duration = Duration::from_secs(7 * 24 * 3600);

/// The parked agents. A place whose time is up is as good as none.
#[derive(Default)]
pub(super) struct Parking(Mutex<BTreeMap<AgentName, Instant>>);

impl Parking {
    /// Of two times the later one holds: a turn that was under way may know less.
    pub(super) fn park(&self, agent: &AgentName, wait: Duration, now: Instant) {
        let until = now + wait.min(PARKED_MAX);
        let mut parked = self.parked();
        parked.retain(|_, until| *until > now);
        let standing = parked.entry(agent.clone()).or_insert(until);
        *standing = until.max(*standing);
    }

    /// How long the agent stays parked; `None` when it is not.
    pub(super) fn left(&self, agent: &AgentName, now: Instant) -> Option<Duration> {
        let until = *self.parked().get(agent)?;
        until.checked_duration_since(now).filter(|left| !left.is_zero())
    }

    /// When the next agent may run again.
    pub(super) fn next_end(&self, now: Instant) -> Option<Instant> {
        self.parked().values().copied().filter(|until| *until > now).min()
    }

    fn parked(&self) -> MutexGuard<'_, BTreeMap<AgentName, Instant>> {
        // No panic can leave the map half-changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_parked_agent_is_free_again_by_itself_and_the_later_of_two_times_holds() {
        let (parking, now) = (Parking::default(), Instant::now());
        let (a, b) = (AgentName::new("a").unwrap(), AgentName::new("b").unwrap());
        let secs = Duration::from_secs;
        parking.park(&a, secs(60), now);
        parking.park(&a, secs(10), now);
        parking.park(&b, secs(90), now);
        assert_eq!(parking.left(&a, now + secs(20)), Some(secs(40)));
        assert_eq!(parking.next_end(now), Some(now + secs(60)));
        assert_eq!(parking.left(&a, now + secs(60)), None);
        assert_eq!(parking.next_end(now + secs(60)), Some(now + secs(90)));
        parking.park(&a, Duration::MAX, now);
        assert_eq!(parking.left(&a, now), Some(PARKED_MAX), "no provider parks an agent for ever");
    }
}
