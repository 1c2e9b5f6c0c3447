//! Frees what dead or stopped nodes hold. Steals only what it saw itself, unchanged for a whole lease, on its own clock and
//! over an uninterrupted connection; a node whose advisory lock was seen held and then gone is dead sooner. What only its home
//! can run is left to its home.

use crate::domain::ids::{Fence, Incarnation, NodeId, SessionId, TaskId};
use crate::domain::task::Lease;
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How often the rescuer looks: twice a second, so that a death is answered within 2 s of it ([`LOCK_GONE`] is counted from
/// the last look that saw the lock). Reads only, on the renewals' connection.
const EVERY: Duration = Duration::from_millis(500);
/// A lease unchanged for this long is nobody's.
const LEASE: Duration = Duration::from_secs(15);
/// A lock gone for this long means a dead node (measured: freed 4 ms after SIGKILL; a reconnect takes up to 1 s).
const LOCK_GONE: Duration = Duration::from_millis(1500);
/// And every look of this long saw it gone: after a pause of the watcher itself, one look may fall into a reconnect. Three
/// looks, with some room for their jitter.
const LOCK_UNSEEN: Duration = Duration::from_millis(900);

/// A lease of another incarnation, as a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Foreign {
    /// Lane.
    pub session: SessionId,
    /// Fence.
    pub fence: Fence,
    /// Whose.
    pub node: NodeId,
    /// Which start.
    pub incarnation: Incarnation,
    /// Changes with every renewal.
    pub lease_until: DateTime<Utc>,
}

/// A node, as a row and its lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeSeen {
    /// Which.
    pub id: NodeId,
    /// Its newest start.
    pub incarnation: Incarnation,
    /// Its lock is held now.
    pub alive: bool,
}

/// What the rescuer needs of the other side.
#[async_trait]
pub trait LeaseWatch: Send + Sync + 'static {
    /// Who looks.
    fn me(&self) -> (NodeId, Incarnation);
    /// Leases of other incarnations, and all nodes, over one connection.
    ///
    /// # Errors
    /// When the connection broke: all that was seen is void.
    async fn look(&self) -> Result<(Vec<Foreign>, Vec<NodeSeen>), super::task_source::SourceError>;
    /// Leases that the rows say are ours.
    ///
    /// # Errors
    /// As [`LeaseWatch::look`].
    async fn own(&self) -> Result<Vec<Lease>, super::task_source::SourceError>;
    /// Takes leases away. `whole` also those that only their home can run (it is the home that asks).
    ///
    /// # Errors
    /// As [`LeaseWatch::look`].
    async fn rescue(&self, leases: &[Foreign], whole: bool)
    -> Result<usize, super::task_source::SourceError>;
    /// Gives back a lease of our own that no turn here knows.
    ///
    /// # Errors
    /// As [`LeaseWatch::look`].
    async fn give_back(&self, lease: &Lease) -> Result<(), super::task_source::SourceError>;
    /// Frees the idle lanes of dead nodes that may move.
    ///
    /// # Errors
    /// As [`LeaseWatch::look`].
    async fn rehome(&self, dead: &[NodeId]) -> Result<(), super::task_source::SourceError>;
}

/// What was seen so far over the present connection.
#[derive(Default)]
struct Seen {
    leases: HashMap<Foreign, Instant>,
    /// Locks that were seen held, with the last time.
    locks: HashMap<Incarnation, Instant>,
    /// Incarnations whose lock was absent at every look, with the first.
    absent: HashMap<Incarnation, Instant>,
    /// Own leases that no turn knows, with the first look at which that was so.
    stray: HashMap<Lease, Instant>,
}

/// Looks every second, for ever. `held` says which leases have a turn here.
///
/// # Cancel safety
/// May be dropped at any point.
pub async fn run(watch: Arc<dyn LeaseWatch>, held: impl Fn() -> Vec<Lease> + Send) {
    let mut seen = Seen::default();
    let mut every = tokio::time::interval(EVERY);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        every.tick().await;
        if let Err(error) = round(watch.as_ref(), &mut seen, &held).await {
            tracing::debug!(%error, "the rescuer lost its connection; what it saw is void");
            seen = Seen::default();
        }
    }
}

async fn round(
    watch: &dyn LeaseWatch,
    seen: &mut Seen,
    held: &(impl Fn() -> Vec<Lease> + Send),
) -> Result<(), super::task_source::SourceError> {
    let (leases, nodes) = watch.look().await?;
    let verdict = seen.judge(watch.me().0, &leases, &nodes, Instant::now());
    for (what, whole) in [(&verdict.my_past, true), (&verdict.abandoned, false)] {
        if !what.is_empty() {
            let moved = watch.rescue(what, whole).await?;
            if moved > 0 {
                metrics::counter!(crate::domain::measure::RECLAIMS).increment(moved as u64);
                tracing::warn!(moved, "leases of a lost owner went back to the queue");
            }
        }
    }
    if !verdict.dead.is_empty() {
        watch.rehome(&verdict.dead).await?;
    }
    for lease in seen.strays(&watch.own().await?, &held(), Instant::now()) {
        tracing::warn!(task = %lease.task, "a lease that no turn knows is given back");
        watch.give_back(&lease).await?;
    }
    Ok(())
}

#[derive(Debug, Default, PartialEq)]
struct Verdict {
    my_past: Vec<Foreign>,
    abandoned: Vec<Foreign>,
    dead: Vec<NodeId>,
}

impl Seen {
    /// Pure but for its memory: the same looks at the same times give the same verdicts.
    fn judge(&mut self, me: NodeId, leases: &[Foreign], nodes: &[NodeSeen], now: Instant) -> Verdict {
        self.leases.retain(|lease, _| leases.contains(lease));
        self.absent.retain(|known, _| nodes.iter().any(|node| node.incarnation == *known && !node.alive));
        for node in nodes {
            if node.alive {
                if self.locks.insert(node.incarnation, now).is_none() && node.id != me {
                    tracing::info!(node = %node.id, "another node is there");
                }
            } else {
                self.absent.entry(node.incarnation).or_insert(now);
            }
        }
        let gone = |incarnation: &Incarnation| {
            let alive = nodes.iter().any(|node| node.incarnation == *incarnation && node.alive);
            let for_long = |since: &Instant, long| now.duration_since(*since) >= long;
            !alive
                && self.locks.get(incarnation).is_some_and(|held| for_long(held, LOCK_GONE))
                && self.absent.get(incarnation).is_some_and(|first| for_long(first, LOCK_UNSEEN))
        };
        let mut verdict = Verdict::default();
        for lease in leases {
            let since = *self.leases.entry(*lease).or_insert(now);
            if lease.node == me {
                // Our own earlier start: we hold the data folder's lock, so nothing of it is left.
                verdict.my_past.push(*lease);
            } else if gone(&lease.incarnation) || now.duration_since(since) >= LEASE {
                verdict.abandoned.push(*lease);
            }
        }
        // A node that died before we looked first never showed us its lock: its lanes may move after a whole lease.
        let long_absent = |node: &NodeSeen| {
            self.absent.get(&node.incarnation).is_some_and(|since| now.duration_since(*since) >= LEASE)
        };
        verdict.dead = nodes
            .iter()
            .filter(|node| node.id != me && (gone(&node.incarnation) || long_absent(node)))
            .map(|node| node.id)
            .collect();
        verdict
    }
}

impl Seen {
    /// Own leases that no turn has known for a whole lease: not one that a slow round is about to start.
    fn strays(&mut self, own: &[Lease], known: &[Lease], now: Instant) -> Vec<Lease> {
        self.stray.retain(|lease, _| own.contains(lease) && !known.contains(lease));
        for lease in own.iter().filter(|lease| !known.contains(lease)) {
            self.stray.entry(*lease).or_insert(now);
        }
        let old = self.stray.iter().filter(|(_, since)| now.duration_since(**since) >= LEASE);
        old.map(|(lease, _)| *lease).collect()
    }
}

/// For [`LeaseWatch::own`]: a lease from its three numbers.
pub(super) fn lease(session: uuid::Uuid, fence: i64, task: uuid::Uuid) -> Lease {
    Lease { session: SessionId(session), fence: Fence(fence), task: TaskId(task) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    const ME: NodeId = NodeId(Uuid::from_u128(1));
    const OTHER: NodeId = NodeId(Uuid::from_u128(2));
    const START: Incarnation = Incarnation(Uuid::from_u128(3));

    fn foreign(node: NodeId, renewal: i64) -> Foreign {
        Foreign {
            session: SessionId(Uuid::from_u128(9)),
            fence: Fence(1),
            node,
            incarnation: START,
            lease_until: DateTime::from_timestamp(renewal, 0).expect("a time"),
        }
    }

    fn node(alive: bool) -> NodeSeen {
        NodeSeen { id: OTHER, incarnation: START, alive }
    }

    #[test]
    fn a_fresh_start_and_an_outage_steal_nothing() {
        let now = Instant::now();
        let mut seen = Seen::default();
        // Expired long ago by the wall clock, but never seen before by us.
        assert_eq!(seen.judge(ME, &[foreign(OTHER, 0)], &[node(false)], now), Verdict::default());
    }

    #[test]
    fn a_renewal_starts_the_wait_anew() {
        let (now, mut seen) = (Instant::now(), Seen::default());
        seen.judge(ME, &[foreign(OTHER, 1)], &[node(true)], now);
        let later = now + Duration::from_secs(14);
        seen.judge(ME, &[foreign(OTHER, 2)], &[node(true)], later);
        let verdict = seen.judge(ME, &[foreign(OTHER, 2)], &[node(true)], later + Duration::from_secs(14));
        assert_eq!(verdict, Verdict::default());
        let verdict = seen.judge(ME, &[foreign(OTHER, 2)], &[node(true)], later + LEASE);
        assert_eq!(verdict.abandoned, [foreign(OTHER, 2)]);
    }

    #[test]
    fn a_lock_that_was_held_and_is_gone_means_death_within_two_seconds() {
        let (now, mut seen) = (Instant::now(), Seen::default());
        seen.judge(ME, &[foreign(OTHER, 1)], &[node(true)], now);
        let soon = seen.judge(ME, &[foreign(OTHER, 1)], &[node(false)], now + Duration::from_secs(1));
        assert_eq!(soon, Verdict::default(), "it may be reconnecting");
        let verdict = seen.judge(ME, &[foreign(OTHER, 1)], &[node(false)], now + Duration::from_secs(2));
        assert_eq!((verdict.abandoned.len(), verdict.dead), (1, vec![OTHER]));
    }

    #[test]
    fn a_watcher_that_paused_does_not_take_one_look_for_a_death() {
        let (now, mut seen) = (Instant::now(), Seen::default());
        seen.judge(ME, &[foreign(OTHER, 1)], &[node(true)], now);
        let later = now + Duration::from_secs(9);
        assert_eq!(seen.judge(ME, &[foreign(OTHER, 1)], &[node(false)], later), Verdict::default());
        assert_eq!(seen.judge(ME, &[foreign(OTHER, 1)], &[node(true)], later + EVERY), Verdict::default());
    }

    #[test]
    fn a_node_that_died_before_we_came_is_dead_after_a_whole_lease() {
        let (now, mut seen) = (Instant::now(), Seen::default());
        assert!(seen.judge(ME, &[], &[node(false)], now).dead.is_empty());
        assert!(seen.judge(ME, &[], &[node(false)], now + LEASE - EVERY).dead.is_empty());
        assert_eq!(seen.judge(ME, &[], &[node(false)], now + LEASE).dead, [OTHER]);
        assert!(seen.judge(ME, &[], &[node(true)], now + LEASE).dead.is_empty(), "it came back");
        assert!(seen.judge(ME, &[], &[node(false)], now + LEASE + EVERY).dead.is_empty());
    }

    #[test]
    fn a_lease_that_no_turn_knows_is_given_back_after_a_whole_lease_and_not_before() {
        let (now, mut seen) = (Instant::now(), Seen::default());
        let mine = lease(Uuid::from_u128(1), 1, Uuid::from_u128(2));
        assert!(seen.strays(&[mine], &[], now).is_empty());
        assert!(seen.strays(&[mine], &[mine], now + LEASE).is_empty(), "its turn has started");
        assert!(seen.strays(&[mine], &[], now + LEASE).is_empty());
        assert_eq!(seen.strays(&[mine], &[], now + LEASE * 2), [mine]);
    }

    #[test]
    fn a_nodes_own_past_is_rescued_at_once() {
        let verdict = Seen::default().judge(ME, &[foreign(ME, 1)], &[], Instant::now());
        assert_eq!(verdict.my_past.len(), 1);
    }
}
