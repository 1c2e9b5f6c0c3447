//! Random histories of the queue against a model of it: admission, lanes, fences, cancels, rescue.
//!
//! `AGENTPOOL_MODEL_CASES` says how many histories are tried (default 32), `AGENTPOOL_MODEL_SEED` which. A history that fails
//! is shrunk and printed as it would be written here: it becomes a test of its own below.

use crate::support::queue::Queue;
use crate::support::queue_model::{End, Op, Pick, When, World};
use proptest::collection::vec;
use proptest::prelude::{Just, Strategy, any, prop_oneof};
use proptest::test_runner::{Config, RngSeed, TestRunner};

/// How many histories, unless told otherwise: some twenty seconds on two busy cores.
const CASES: u32 = 32;
/// Steps of a history at most.
const STEPS_MAX: usize = 60;

fn when() -> impl Strategy<Value = When> {
    prop_oneof![4 => Just(When::AtOnce), 1 => Just(When::Past), 1 => Just(When::Future)]
}

/// Mostly a lease that is held; now and then one that may be long lost.
fn lease() -> impl Strategy<Value = Pick> {
    prop_oneof![3 => any::<u8>().prop_map(Pick::Held), 1 => any::<u8>().prop_map(Pick::Any)]
}

fn end() -> impl Strategy<Value = End> {
    prop_oneof![
        4 => Just(End::Completed),
        1 => Just(End::Failed),
        1 => Just(End::Cancelled),
        2 => Just(End::Drained),
        2 => Just(End::CrashedAndWaits),
    ]
}

fn agents() -> impl Strategy<Value = &'static [&'static str]> {
    prop_oneof![
        4 => Just(&["a", "b"] as &[&str]),
        1 => Just(&["a"] as &[&str]),
        1 => Just(&["b"] as &[&str]),
        1 => Just(&[] as &[&str]),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    let n = any::<u8>;
    prop_oneof![
        8 => (n(), n(), -100..=100_i16, when())
            .prop_map(|(session, agent, priority, when)| Op::Enqueue { session, agent, priority, when }),
        3 => (n(), n(), when()).prop_map(|(session, agent, when)| Op::Insert { session, agent, when }),
        8 => n().prop_map(|node| Op::Admit { node }),
        8 => (n(), 0..4_u8, agents()).prop_map(|(node, hands, agents)| Op::Claim { node, hands, agents }),
        2 => lease().prop_map(Op::Renew),
        3 => lease().prop_map(Op::Begin),
        3 => (lease(), n()).prop_map(|(lease, events)| Op::Append { lease, events }),
        2 => lease().prop_map(Op::SaveWorktree),
        8 => (lease(), end()).prop_map(|(lease, end)| Op::Finish { lease, end }),
        5 => n().prop_map(|task| Op::Cancel { task }),
        1 => n().prop_map(|session| Op::Close { session }),
        2 => n().prop_map(|node| Op::Restart { node }),
        2 => n().prop_map(|by| Op::Rescue { by }),
        1 => n().prop_map(|dead| Op::Rehome { dead }),
        3 => Just(Op::Later),
    ]
}

fn variable<T: std::str::FromStr>(name: &str) -> Option<T> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

#[test]
fn f90_to_f93_the_rows_are_what_a_model_of_the_queue_says_after_every_step_of_random_histories() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let queue = runtime.block_on(Queue::new());
    let seed = variable("AGENTPOOL_MODEL_SEED").unwrap_or_else(rand::random);
    println!("AGENTPOOL_MODEL_SEED={seed}");
    let config = Config {
        cases: variable("AGENTPOOL_MODEL_CASES").unwrap_or(CASES),
        rng_seed: RngSeed::Fixed(seed),
        failure_persistence: None,
        max_shrink_iters: 400,
        ..Config::default()
    };
    let outcome = TestRunner::new(config).run(&vec(op(), 1..STEPS_MAX), |history| {
        runtime.block_on(async {
            let mut world = World::new(&queue).await;
            world.live(&history).await;
            world.drain().await;
        });
        Ok(())
    });
    if let Err(error) = outcome {
        panic!("AGENTPOOL_MODEL_SEED={seed}: {error}");
    }
}

/// Does one history, and then lets all tasks end.
async fn holds(history: &[Op]) {
    let queue = Queue::new().await;
    let mut world = World::new(&queue).await;
    world.live(history).await;
    world.drain().await;
}

#[tokio::test]
async fn f90_a_zombies_end_after_a_rescue_and_before_the_next_claim_is_not_called_done() {
    for end in [End::Completed, End::Failed, End::Cancelled, End::Drained, End::CrashedAndWaits] {
        holds(&[
            Op::Enqueue { session: 1, agent: 0, priority: 0, when: When::AtOnce },
            Op::Admit { node: 0 },
            Op::Claim { node: 0, hands: 1, agents: &["a"] },
            Op::Rescue { by: 1 },
            Op::Finish { lease: Pick::Any(0), end },
        ])
        .await;
    }
}
