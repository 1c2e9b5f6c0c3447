//! Which slots and spare processes are given back: a pure decision over a snapshot. The owner re-checks under the slot's lock
//! before it acts.

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
    /// What all agent processes may hold together. Above it spares are given back, then slots that free some of it, least
    /// recently used first, until the rest fits.
    pub memory_bytes: u64,
}

/// The pool at the moment of the decision.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Every slot.
    pub slots: Vec<SlotView>,
    /// What all agent processes hold: those of slots, shared servers and spares.
    pub total_bytes: u64,
    /// What spare processes hold of it.
    pub spare_bytes: u64,
    /// What spare processes held when they were last given back, if none have been allowed since.
    pub withheld_bytes: Option<u64>,
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
    /// What giving it back frees; nothing where it lives in a process with others.
    pub bytes: u64,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// One verdict a slot, in the order given.
    pub verdicts: Vec<(SessionKey, Verdict)>,
    /// About spare processes.
    pub spares: Spares,
    /// What stays above the budget when all of this is done, because it is in use or shared.
    pub over_bytes: u64,
}

/// What becomes of spare processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spares {
    /// As it is.
    Leave,
    /// None for now.
    GiveBack,
    /// There is room for them again.
    Allow,
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
    /// All together hold too much memory.
    Memory,
}

/// What to give back.
pub fn decide(pool: &Snapshot, limits: &Limits) -> Decision {
    let mut idle: Vec<&SlotView> = pool.slots.iter().filter(|slot| protected(slot).is_none()).collect();
    idle.sort_by_key(|slot| std::cmp::Reverse(slot.idle));
    let too_many = pool.slots.len().saturating_sub(limits.live_max.get());
    let mut over_bytes = pool.total_bytes.saturating_sub(limits.memory_bytes);
    let spares = match pool.withheld_bytes {
        _ if over_bytes > 0 && pool.spare_bytes > 0 => Spares::GiveBack,
        Some(bytes) if pool.total_bytes.saturating_add(bytes) <= limits.memory_bytes => Spares::Allow,
        Some(_) | None => Spares::Leave,
    };
    over_bytes = over_bytes.saturating_sub(pool.spare_bytes);
    let mut evicted = Vec::new();
    for (n, slot) in idle.iter().enumerate() {
        let reason = match () {
            () if slot.idle >= limits.idle_ttl => Reason::Idle,
            () if n < too_many => Reason::TooMany,
            () => continue,
        };
        evicted.push((&slot.key, reason));
        over_bytes = over_bytes.saturating_sub(slot.bytes);
    }
    for slot in idle {
        if over_bytes == 0 {
            break;
        }
        if slot.bytes > 0 && !evicted.iter().any(|(key, _)| **key == slot.key) {
            evicted.push((&slot.key, Reason::Memory));
            over_bytes = over_bytes.saturating_sub(slot.bytes);
        }
    }
    let verdict = |slot: &SlotView| {
        let reason = evicted.iter().find(|(key, _)| **key == slot.key).map(|(_, reason)| *reason);
        protected(slot).unwrap_or(reason.map_or(Verdict::Keep, Verdict::Evict))
    };
    let verdicts = pool.slots.iter().map(|slot| (slot.key.clone(), verdict(slot))).collect();
    Decision { verdicts, spares, over_bytes }
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
            bytes: 0,
        }
    }

    fn limits(live_max: usize) -> Limits {
        let live_max = NonZeroUsize::new(live_max).expect("not zero");
        Limits { idle_ttl: Duration::from_secs(1800), live_max, memory_bytes: 1000 }
    }

    fn verdicts(slots: &[SlotView], live_max: usize) -> Vec<Verdict> {
        let pool = Snapshot { slots: slots.to_vec(), ..Snapshot::default() };
        decide(&pool, &limits(live_max)).verdicts.into_iter().map(|(_, verdict)| verdict).collect()
    }

    #[test]
    fn what_was_idle_for_the_ttl_goes_and_what_was_not_stays() {
        assert_eq!(
            verdicts(&[slot(1, 1800), slot(2, 1799)], 9),
            [Verdict::Evict(Reason::Idle), Verdict::Keep]
        );
    }

    #[test]
    fn the_least_recently_used_goes_first_when_there_are_too_many() {
        assert_eq!(
            verdicts(&[slot(1, 5), slot(2, 50), slot(3, 7)], 2),
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
            verdicts(&[busy, asked, queued, pinned], 1),
            [Verdict::Busy, Verdict::AwaitingPermission, Verdict::QueuedPrompts, Verdict::Pinned]
        );
    }

    /// Slots that were idle for so many seconds and hold so many bytes, the rest of the total being shared; over a budget of
    /// 1000: which of them go, and what stays above it.
    #[test]
    fn over_the_budget_the_least_recently_used_go_until_the_rest_fits() {
        type Row<'a> = (&'a str, &'a [(u64, u64)], u64, &'a [usize], u64);
        let table: [Row<'_>; 6] = [
            ("within it", &[(1, 400), (2, 600)], 0, &[], 0),
            ("one is enough", &[(1, 400), (9, 300), (5, 400)], 0, &[1], 0),
            ("two are needed", &[(1, 900), (9, 100), (5, 200)], 0, &[1, 2], 0),
            ("what frees nothing stays", &[(9, 0), (5, 300)], 900, &[1], 0),
            ("a shared server alone is over it", &[(9, 0), (5, 0)], 1500, &[], 500),
            ("all of it does not do", &[(9, 100)], 1200, &[0], 200),
        ];
        for (what, slots, shared, gone, over) in table {
            let slots = (1..).zip(slots);
            let slots: Vec<_> =
                slots.map(|(n, (idle, bytes))| SlotView { bytes: *bytes, ..slot(n, *idle) }).collect();
            let total_bytes = shared + slots.iter().map(|slot| slot.bytes).sum::<u64>();
            let decision = decide(&Snapshot { slots, total_bytes, ..Snapshot::default() }, &limits(9));
            let evicted = decision.verdicts.iter().enumerate();
            let evicted: Vec<usize> = evicted
                .filter(|(_, (_, verdict))| *verdict == Verdict::Evict(Reason::Memory))
                .map(|(n, _)| n)
                .collect();
            assert_eq!((evicted.as_slice(), decision.over_bytes), (gone, over), "{what}");
        }
    }

    #[test]
    fn what_goes_for_another_reason_counts_and_what_is_in_use_never_goes() {
        let old = SlotView { bytes: 600, ..slot(1, 1800) };
        let young = SlotView { bytes: 500, ..slot(2, 5) };
        let busy = SlotView { bytes: 5000, in_turn: true, ..slot(3, 9) };
        let decided = |slots: &[&SlotView]| {
            let slots: Vec<SlotView> = slots.iter().map(|slot| (*slot).clone()).collect();
            let total_bytes = slots.iter().map(|slot| slot.bytes).sum();
            let decision = decide(&Snapshot { slots, total_bytes, ..Snapshot::default() }, &limits(9));
            let verdicts: Vec<Verdict> = decision.verdicts.into_iter().map(|(_, verdict)| verdict).collect();
            (verdicts, decision.over_bytes)
        };
        assert_eq!(decided(&[&old, &young]), (vec![Verdict::Evict(Reason::Idle), Verdict::Keep], 0));
        assert_eq!(decided(&[&busy]), (vec![Verdict::Busy], 4000));
        assert_eq!(decided(&[&busy, &young]), (vec![Verdict::Busy, Verdict::Evict(Reason::Memory)], 4000));
    }

    #[test]
    fn spares_go_first_and_come_back_when_there_is_room_for_them() {
        let slots = vec![SlotView { bytes: 900, ..slot(1, 5) }];
        let decided = |total_bytes, spare_bytes, withheld_bytes| {
            let slots = slots.clone();
            let pool = Snapshot { slots, total_bytes, spare_bytes, withheld_bytes };
            let decision = decide(&pool, &limits(9));
            (decision.spares, decision.verdicts[0].1)
        };
        assert_eq!(decided(1100, 200, None), (Spares::GiveBack, Verdict::Keep));
        assert_eq!(decided(1300, 200, None), (Spares::GiveBack, Verdict::Evict(Reason::Memory)));
        assert_eq!(decided(900, 0, Some(200)), (Spares::Leave, Verdict::Keep), "they would not fit");
        assert_eq!(decided(800, 0, Some(200)), (Spares::Allow, Verdict::Keep));
        assert_eq!(decided(800, 0, None), (Spares::Leave, Verdict::Keep));
    }
}
