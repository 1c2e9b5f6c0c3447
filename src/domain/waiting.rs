//! Why a task that is queued does not run yet, from what its row, its lane and this node say. The first reason that holds is told.

use super::ids::{NodeId, TaskId};
use chrono::{DateTime, Utc};

/// What is known of a queued task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The task.
    pub task: TaskId,
    /// A cancel was asked, or its session is closed: the next admission ends it.
    pub ending: bool,
    /// Not before.
    pub run_at: Option<DateTime<Utc>>,
    /// Its reason to try again is its provider's limit.
    pub rate_limited: bool,
    /// It stands in its lane.
    pub admitted: bool,
    /// Its lane; none before its session's first task was admitted.
    pub lane: Option<LaneStanding>,
    /// Its agent, on the node that answers.
    pub agent: AgentHere,
}

/// A lane, as far as it matters to one of its tasks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaneStanding {
    /// Who is first.
    pub head: Option<TaskId>,
    /// The head runs.
    pub leased: bool,
    /// Nothing of it is claimed until then.
    pub wake_at: Option<DateTime<Utc>>,
    /// Nothing of it is claimed until somebody says so.
    pub paused: bool,
    /// The node that holds the worktree.
    pub home: Option<NodeId>,
    /// That is the node that answers.
    pub home_is_here: bool,
}

/// An agent, on the node that answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AgentHere {
    /// This node does not run it.
    Elsewhere,
    /// Its provider's limit was reached.
    Parked(DateTime<Utc>),
    /// It failed to start so often that it is not tried for a while.
    Down,
    /// It takes turns.
    Ready,
}

/// Why a task waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wait {
    /// It is about to end as cancelled.
    Ending,
    /// Its time has not come.
    Scheduled(DateTime<Utc>),
    /// It was put in a moment ago.
    Admission,
    /// Another task of its session is first.
    LaneBusy {
        /// Which.
        head: Option<TaskId>,
        /// It runs; else it waits too.
        running: bool,
    },
    /// Somebody has stopped its session.
    Paused,
    /// The provider's limit was reached.
    RateLimited(DateTime<Utc>),
    /// It failed and is tried again then.
    BackingOff(DateTime<Utc>),
    /// The node with the session's worktree has to run it.
    OtherNode(NodeId),
    /// The node that answers does not run that agent.
    AgentElsewhere,
    /// The agent does not start.
    AgentDown,
    /// Every hand of the node has a turn.
    NoFreeHand,
}

impl Wait {
    /// The stable word.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Ending => "ending",
            Self::Scheduled(_) => "scheduled",
            Self::Admission => "admission",
            Self::LaneBusy { .. } => "lane_busy",
            Self::Paused => "paused",
            Self::RateLimited(_) => "rate_limited",
            Self::BackingOff(_) => "backing_off",
            Self::OtherNode(_) => "waits_for_node",
            Self::AgentElsewhere => "agent_elsewhere",
            Self::AgentDown => "agent_down",
            Self::NoFreeHand => "no_free_hand",
        }
    }

    /// When the reason ends, where that is known.
    pub const fn until(&self) -> Option<DateTime<Utc>> {
        match self {
            Self::Scheduled(until) | Self::RateLimited(until) | Self::BackingOff(until) => Some(*until),
            _ => None,
        }
    }
}

impl Standing {
    /// The first reason that holds. Pure: `now` is the database's or this node's, a second either way changes no decision.
    pub fn wait(&self, now: DateTime<Utc>) -> Wait {
        if self.ending {
            return Wait::Ending;
        }
        let Some(lane) = self.lane.as_ref().filter(|_| self.admitted) else {
            return match self.run_at.filter(|at| *at > now) {
                Some(at) => Wait::Scheduled(at),
                None => Wait::Admission,
            };
        };
        if lane.head != Some(self.task) {
            return Wait::LaneBusy { head: lane.head, running: lane.leased };
        }
        if lane.paused {
            return Wait::Paused;
        }
        if let Some(until) = lane.wake_at.filter(|until| *until > now) {
            return if self.rate_limited { Wait::RateLimited(until) } else { Wait::BackingOff(until) };
        }
        if let Some(home) = lane.home.filter(|_| !lane.home_is_here) {
            return Wait::OtherNode(home);
        }
        match self.agent {
            AgentHere::Elsewhere => Wait::AgentElsewhere,
            AgentHere::Parked(until) => Wait::RateLimited(until),
            AgentHere::Down => Wait::AgentDown,
            AgentHere::Ready => Wait::NoFreeHand,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn standing(change: impl FnOnce(&mut Standing)) -> Standing {
        let task = TaskId(Uuid::from_u128(1));
        let lane = LaneStanding {
            head: Some(task),
            leased: false,
            wake_at: None,
            paused: false,
            home: None,
            home_is_here: false,
        };
        let mut standing = Standing {
            task,
            ending: false,
            run_at: None,
            rate_limited: false,
            admitted: true,
            lane: Some(lane),
            agent: AgentHere::Ready,
        };
        change(&mut standing);
        standing
    }

    #[test]
    fn each_reason_is_told_by_what_makes_it_so() {
        let now = DateTime::from_timestamp(1_000, 0).unwrap();
        let (past, later) = (now - chrono::Duration::seconds(1), now + chrono::Duration::seconds(9));
        let other = TaskId(Uuid::from_u128(2));
        let node = NodeId(Uuid::from_u128(3));
        let lane = |change: fn(&mut LaneStanding, DateTime<Utc>)| {
            standing(|s| change(s.lane.as_mut().unwrap(), later))
        };
        let cases = [
            (standing(|s| s.ending = true), Wait::Ending),
            (standing(|s| (s.admitted, s.run_at) = (false, Some(later))), Wait::Scheduled(later)),
            (standing(|s| (s.admitted, s.run_at) = (false, Some(past))), Wait::Admission),
            (standing(|s| s.lane = None), Wait::Admission),
            (
                standing(|s| s.lane.as_mut().unwrap().head = Some(other)),
                Wait::LaneBusy { head: Some(other), running: false },
            ),
            (lane(|l, _| l.paused = true), Wait::Paused),
            (lane(|l, later| l.wake_at = Some(later)), Wait::BackingOff(later)),
            (
                standing(|s| {
                    s.rate_limited = true;
                    s.lane.as_mut().unwrap().wake_at = Some(later);
                }),
                Wait::RateLimited(later),
            ),
            (standing(|s| s.lane.as_mut().unwrap().home = Some(node)), Wait::OtherNode(node)),
            (standing(|s| s.agent = AgentHere::Elsewhere), Wait::AgentElsewhere),
            (standing(|s| s.agent = AgentHere::Parked(later)), Wait::RateLimited(later)),
            (standing(|s| s.agent = AgentHere::Down), Wait::AgentDown),
            (standing(|_| ()), Wait::NoFreeHand),
        ];
        for (standing, expected) in cases {
            assert_eq!(standing.wait(now), expected, "{standing:?}");
        }
    }
}
