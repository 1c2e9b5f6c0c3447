//! Which slots are given back: a pure decision over a snapshot. The owner re-checks under the slot's lock before it acts.

use crate::domain::session::SessionKey;
use std::num::NonZeroUsize;
use std::time::Duration;

/// How much may be warm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// A slot that was idle for this long is given back.
    pub idle_ttl: Duration,
    /// Slots above this number are given back, least recently used first.
    pub live_max: NonZeroUsize,
}

/// One slot at the moment of the decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotView {
    /// Whose.
    pub key: SessionKey,
    /// Since its last turn.
    pub idle: Duration,
    /// A turn has it.
    pub in_turn: bool,
    /// That turn waits for a person.
    pub awaiting_permission: bool,
    /// Turns that wait for it.
    pub queued: usize,
    /// Somebody asked to keep it.
    pub pinned: bool,
}

/// What becomes of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Give it back.
    Evict(Reason),
    /// Keep: a turn runs.
    Busy,
    /// Keep: a person is asked.
    AwaitingPermission,
    /// Keep: a turn waits for it.
    QueuedPrompts,
    /// Keep: somebody asked to.
    Pinned,
    /// Keep: nothing speaks against it.
    Keep,
}

/// Why a slot is given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Nobody used it for the time to live.
    Idle,
    /// There are too many.
    TooMany,
}

/// One verdict a slot, in the order given.
pub fn verdicts(slots: &[SlotView], limits: &Limits) -> Vec<(SessionKey, Verdict)> {
    let mut idle: Vec<&SlotView> = slots.iter().filter(|slot| protected(slot).is_none()).collect();
    idle.sort_by_key(|slot| std::cmp::Reverse(slot.idle));
    let over = slots.len().saturating_sub(limits.live_max.get());
    let least_recent: Vec<&SessionKey> = idle.iter().take(over).map(|slot| &slot.key).collect();
    slots
        .iter()
        .map(|slot| {
            let verdict = protected(slot).unwrap_or({
                if slot.idle >= limits.idle_ttl {
                    Verdict::Evict(Reason::Idle)
                } else if least_recent.contains(&&slot.key) {
                    Verdict::Evict(Reason::TooMany)
                } else {
                    Verdict::Keep
                }
            });
            (slot.key.clone(), verdict)
        })
        .collect()
}

fn protected(slot: &SlotView) -> Option<Verdict> {
    match slot {
        SlotView { awaiting_permission: true, .. } => Some(Verdict::AwaitingPermission),
        SlotView { in_turn: true, .. } => Some(Verdict::Busy),
        SlotView { queued: 1.., .. } => Some(Verdict::QueuedPrompts),
        SlotView { pinned: true, .. } => Some(Verdict::Pinned),
        SlotView { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::agent::AgentName;
    use crate::domain::ids::SessionId;
    use uuid::Uuid;

    fn slot(n: u128, idle_secs: u64) -> SlotView {
        let agent = AgentName::new("a").expect("a good name");
        SlotView {
            key: SessionKey { session: SessionId(Uuid::from_u128(n)), agent },
            idle: Duration::from_secs(idle_secs),
            in_turn: false,
            awaiting_permission: false,
            queued: 0,
            pinned: false,
        }
    }

    fn decide(slots: &[SlotView], live_max: usize) -> Vec<Verdict> {
        let live_max = NonZeroUsize::new(live_max).expect("not zero");
        let limits = Limits { idle_ttl: Duration::from_secs(1800), live_max };
        verdicts(slots, &limits).into_iter().map(|(_, verdict)| verdict).collect()
    }

    #[test]
    fn what_was_idle_for_the_ttl_goes_and_what_was_not_stays() {
        assert_eq!(decide(&[slot(1, 1800), slot(2, 1799)], 9), [Verdict::Evict(Reason::Idle), Verdict::Keep]);
    }

    #[test]
    fn the_least_recently_used_goes_first_when_there_are_too_many() {
        assert_eq!(
            decide(&[slot(1, 5), slot(2, 50), slot(3, 7)], 2),
            [Verdict::Keep, Verdict::Evict(Reason::TooMany), Verdict::Keep]
        );
    }

    #[test]
    fn a_slot_in_use_is_never_taken_however_old_or_many() {
        let old = 999_999;
        let busy = SlotView { in_turn: true, ..slot(1, old) };
        let asked = SlotView { in_turn: true, awaiting_permission: true, ..slot(2, old) };
        let queued = SlotView { queued: 1, ..slot(3, old) };
        let pinned = SlotView { pinned: true, ..slot(4, old) };
        assert_eq!(
            decide(&[busy, asked, queued, pinned], 1),
            [Verdict::Busy, Verdict::AwaitingPermission, Verdict::QueuedPrompts, Verdict::Pinned]
        );
    }
}
