//! Named places between two commits at which a debug build can be told to die, to panic, to wait or to block: the tests of
//! crashes. A release build has nothing of it. Never decides anything by itself.
//!
//! `FAILPOINTS=claimed=kill,begun=delay:500` names places and what happens there, each time they are reached:
//! `kill` (SIGKILL of this process), `panic`, `delay:MS` (the turn waits), `block:MS` (the thread does).

/// The places, in the order in which a turn meets them.
pub const PLACES: [&str; 9] = [
    // Leases are committed, their turns have not begun.
    "claimed",
    // The worktree is made and has its row.
    "worktree_saved",
    // The tree that an interrupted try left is saved, the way back has not begun.
    "interrupted_saved",
    // The task is `running`, the agent has not been prompted.
    "begun",
    // Events are committed.
    "appended",
    // The agent has ended its part, nothing of its end is stored.
    "agent_ended",
    // Output, usage, checkpoint and changes are committed, the finish is not.
    "result_stored",
    // The finish is committed.
    "finished",
    // Leases are renewed.
    "renewed",
];

/// Does what the place was told, if anything.
#[cfg(not(debug_assertions))]
pub async fn failpoint(_place: &'static str) {}

/// Does what the place was told, if anything.
///
/// # Panics
/// When told to, and on a place or an action that does not exist: a test that waits for it would wait in vain.
#[cfg(debug_assertions)]
pub async fn failpoint(place: &'static str) {
    debug_assert!(PLACES.contains(&place), "{place} is not in the list");
    match told::action(place) {
        None => {}
        Some(told::Action::Kill) => told::kill_ourselves(),
        Some(told::Action::Panic) => panic!("failpoint {place}"),
        Some(told::Action::Delay(pause)) => tokio::time::sleep(pause).await,
        Some(told::Action::Block(pause)) => std::thread::sleep(pause),
    }
}

#[cfg(debug_assertions)]
mod told {
    use std::collections::HashMap;
    use std::sync::OnceLock;
    use std::time::Duration;

    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(super) enum Action {
        Kill,
        Panic,
        Delay(Duration),
        Block(Duration),
    }

    pub(super) fn action(place: &str) -> Option<Action> {
        static TOLD: OnceLock<HashMap<String, Action>> = OnceLock::new();
        TOLD.get_or_init(|| parse(&std::env::var("FAILPOINTS").unwrap_or_default())).get(place).copied()
    }

    pub(super) fn parse(text: &str) -> HashMap<String, Action> {
        let word = |told: &str| {
            let (place, action) = told.split_once('=').expect("FAILPOINTS: place=action");
            assert!(super::PLACES.contains(&place), "FAILPOINTS: there is no place {place:?}");
            let ms = |ms: &str| Duration::from_millis(ms.parse().expect("FAILPOINTS: milliseconds"));
            let action = match action.split_once(':') {
                None if action == "kill" => Action::Kill,
                None if action == "panic" => Action::Panic,
                Some(("delay", pause)) => Action::Delay(ms(pause)),
                Some(("block", pause)) => Action::Block(ms(pause)),
                _ => panic!("FAILPOINTS: there is no action {action:?}"),
            };
            (place.to_owned(), action)
        };
        text.split(',').filter(|told| !told.is_empty()).map(word).collect()
    }

    /// As the kernel would: nothing of ours runs after it.
    pub(super) fn kill_ourselves() {
        let _ = nix::sys::signal::kill(nix::unistd::Pid::this(), nix::sys::signal::Signal::SIGKILL);
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn places_are_told_one_by_one() {
            let told = parse("claimed=kill,begun=delay:500");
            assert_eq!(told["claimed"], Action::Kill);
            assert_eq!(told["begun"], Action::Delay(Duration::from_millis(500)));
            assert!(parse("").is_empty());
        }
    }
}
