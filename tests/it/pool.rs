//! The pool as people see it: what it counts, what it gives back and why, and what agents weigh.

use crate::support::acp::FixtureAgent;
use crate::support::cli::User;
use crate::support::conformance::{Line, Subject, options};
use crate::support::leaks::assert_nothing_left;
use crate::support::node::{TestNode, scripted_config};
use agentpool::backend::SessionOrigin;
use agentpool::domain::agent::AgentName;
use agentpool::domain::ids::SessionId;
use agentpool::domain::session::SessionKey;
use agentpool::pool::eviction::{Limits, Reason, Verdict};
use agentpool::pool::{AgentPool, Scales, SlotGuard, Weights};
use agentpool::process::Shims;
use agentpool::wire::health::HealthView;
use agentpool::wire::pool::PoolView;
use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

#[tokio::test(flavor = "multi_thread")]
async fn the_pool_tells_how_conversations_came_to_be_and_how_long_that_took() {
    let node = TestNode::scripted().await;
    let session = node.session().await;
    for _ in 0..3 {
        assert_eq!(node.turn(session.id, "scripted", "SAY: hi").await.status, "completed");
    }
    let counters = node.get::<PoolView>("/api/pool").await.counters;
    assert_eq!(
        (counters.hits, counters.new, counters.resumed, counters.failed),
        (2, 1, 0, 0),
        "{counters:?}"
    );
    assert_eq!((counters.warm.count, counters.cold.count), (2, 1));
    assert!(counters.cold.max_ms >= counters.cold.last_ms && counters.cold.p50_ms.is_some(), "{counters:?}");
    let health: HealthView = node.get("/healthz").await;
    assert_eq!((health.hits, health.misses, health.lost), (2, 1, 0));
    let user = User::of(&node.url).with("AGENTPOOL_TOKEN", node.token.clone());
    let shown = user.run(&["pool"]).await.expect(0).stdout;
    assert!(
        shown.contains("conversations: 2 warm, 1 new\n") && shown.contains("ready after: warm "),
        "{shown}"
    );
    let json = user.run(&["pool", "--json"]).await.expect(0).json();
    assert_eq!(json["counters"]["hits"], 2);
    node.stop().await;
}

/// A real agent's growth costs the other's warmth and nobody's memory; what is in use is never taken, however much it is.
#[tokio::test(flavor = "multi_thread")]
async fn an_idle_session_makes_room_for_one_that_grows_and_is_resumed_with_its_memory() {
    let subject = FixtureAgent::new("");
    let pool = pool_over(&subject, 400 << 20);
    let (quiet, growing) = (new_key(), new_key());
    let (guard, line) = open(&subject, &pool, &quiet).await;
    line.ask(&subject, "GROW:100\nSAY: remember the bittern").await.completed();
    drop(guard);
    assert_eq!(pool.sweep().await, [(quiet.clone(), Verdict::Keep)]);
    assert!(pool.held().await.by_slot[&quiet] > 100 << 20, "{:?}", pool.held().await);

    let (guard, grown) = open(&subject, &pool, &growing).await;
    grown.ask(&subject, "GROW:500\nSAY: grown").await.completed();
    let wanted = [(quiet.clone(), Verdict::Evict(Reason::Memory)), (growing.clone(), Verdict::Busy)];
    let sweep =
        sweep_until(&pool, |sweep| sweep.len() == 2 && sweep.iter().all(|one| wanted.contains(one))).await;
    assert_eq!(sweep.len(), 2, "{sweep:?}");
    let summary = pool.summary();
    assert_eq!((summary.counts.evicted_for_memory, summary.size), (1, 1));
    assert!(summary.over_bytes > 100 << 20, "it is said that the rest is in use: {summary:?}");
    drop(guard);

    let worktree = line.worktree.clone();
    let (guard, line) = reopen(&pool, &quiet, worktree, Some(line.handle.agent_session_id)).await;
    assert_eq!(line.handle.origin, SessionOrigin::Resumed);
    assert!(line.ask(&subject, "RECALL").await.text().contains("bittern"));
    // Now the other one is idle, and too much.
    let sweep =
        sweep_until(&pool, |sweep| sweep.contains(&(growing.clone(), Verdict::Evict(Reason::Memory)))).await;
    assert!(sweep.contains(&(quiet, Verdict::Busy)), "{sweep:?}");
    sweep_until(&pool, |sweep| sweep.len() == 1).await;
    assert_eq!(pool.summary().over_bytes, 0);
    drop(guard);
    pool.dispose(Duration::from_secs(5)).await;
    assert_nothing_left(&subject.mark);
}

#[tokio::test(flavor = "multi_thread")]
async fn spare_processes_are_given_back_before_anything_warm_and_come_back_when_there_is_room() {
    let subject = FixtureAgent::with("", |config| config.spare = 2);
    let spares = || subject.backend().health().spares.len();
    until("both spares are ready", || spares() == 2).await;
    let line = Line::open(&subject).await;
    until("the spare that was taken is replaced", || spares() == 2).await;
    line.ask(&subject, "GROW:100\nSAY: grown").await.completed();
    // A budget that holds without one spare and a half.
    let health = subject.backend().health();
    let weights = subject.shims.weigh(&health.pids).by_child;
    let of_spares: u64 = health.spares.iter().map(|pid| weights[pid]).sum();
    let pool = pool_over(&subject, weights.values().sum::<u64>() - of_spares * 3 / 4);
    let (guard, line) = reopen(&pool, &line.key, line.worktree, Some(line.handle.agent_session_id)).await;
    let key = line.key;
    drop(guard);
    let sweep = pool.sweep().await;
    assert_eq!(spares(), 0);
    assert_eq!(sweep, [(key.clone(), Verdict::Keep)], "giving back the spares was enough");
    assert!(pool.evict(&key, Reason::Idle).await);
    sweep_until(&pool, |_| spares() == 2).await;
    pool.dispose(Duration::from_secs(5)).await;
    assert_nothing_left(&subject.mark);
}

/// What a row says of a conversation holds for the backend that made it; what is configured may change meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn a_changed_configuration_is_told_and_another_backends_conversation_is_not_resumed() {
    let folder = tempfile::tempdir().unwrap();
    let config = scripted_config(&folder).await;
    let node = TestNode::start(config, vec![folder]).await;
    let session = node.session().await;
    assert_eq!(node.turn(session.id, "scripted", "SAY: remember the dunlin").await.status, "completed");
    let (mut config, project, folders) = node.stop().await;
    config.agents.get_mut(&AgentName::new("scripted").unwrap()).unwrap().model = Some("p/other".into());
    let node = TestNode::start_on(config, project, folders).await;
    let (output, conversation, notices) = heard(&node, session.id).await;
    assert!(conversation == "resumed" && output.contains("dunlin"), "{conversation}: {output}");
    assert!(notices.contains("configuration of agent scripted has changed"), "{notices}");
    let (_, conversation, notices) = heard(&node, session.id).await;
    assert!(conversation == "reused" && !notices.contains("has changed"), "it is told once: {notices}");
    let (config, project, folders) = node.stop().await;
    let node = TestNode::start_on(config, project, folders).await;
    let row = "UPDATE agentpool.agent_sessions SET backend = 'opencode_server'";
    node.sql().await.batch_execute(row).await.unwrap();
    let (_, conversation, notices) = heard(&node, session.id).await;
    assert_eq!(conversation, "new");
    assert!(
        notices.contains("begun anew") && notices.contains("3 earlier turns were told again"),
        "{notices}"
    );
    node.stop().await;
}

/// What a turn recalls, how its conversation came to be, and its notices.
async fn heard(node: &TestNode, session: Uuid) -> (String, String, String) {
    let task = node.submit(session, "scripted", "RECALL").await;
    let (task, events) = node.finish(task.id).await;
    let conversation = events[0].input.as_ref().unwrap()["conversation"].as_str().unwrap().to_owned();
    let notices =
        events.iter().filter(|event| event.kind == "notice").filter_map(|event| event.content.clone());
    (task.output.unwrap_or_default(), conversation, notices.collect::<Vec<_>>().join("\n"))
}

struct OfShims(Shims);

impl Scales for OfShims {
    fn weigh(&self, roots: &[u32]) -> Weights {
        let weights = self.0.weigh(roots);
        Weights { by_root: weights.by_child, strays: weights.strays }
    }
}

/// A pool with that agent alone, which may hold so much.
fn pool_over(subject: &FixtureAgent, memory_bytes: u64) -> AgentPool {
    let limits = Limits {
        idle_ttl: Duration::from_secs(1800),
        live_max: NonZeroUsize::new(64).unwrap(),
        memory_bytes,
    };
    let backends = BTreeMap::from([(AgentName::new("subject").unwrap(), subject.backend())]);
    AgentPool::new(backends, limits, Arc::new(OfShims(subject.shims.clone())))
}

fn new_key() -> SessionKey {
    SessionKey { session: SessionId(Uuid::now_v7()), agent: AgentName::new("subject").unwrap() }
}

async fn open(subject: &FixtureAgent, pool: &AgentPool, key: &SessionKey) -> (SlotGuard, Line) {
    reopen(pool, key, subject.worktree(), None).await
}

async fn reopen(
    pool: &AgentPool,
    key: &SessionKey,
    worktree: std::path::PathBuf,
    resume: Option<String>,
) -> (SlotGuard, Line) {
    let mut guard = pool.check_out(key).await.unwrap();
    let handle = guard.ensure(options(&worktree, resume, &[])).await.unwrap();
    let line = Line { key: key.clone(), worktree, handle };
    (guard, line)
}

/// What the pool holds is looked at anew every two seconds.
async fn sweep_until(
    pool: &AgentPool,
    enough: impl Fn(&[(SessionKey, Verdict)]) -> bool,
) -> Vec<(SessionKey, Verdict)> {
    let begun = std::time::Instant::now();
    loop {
        let sweep = pool.sweep().await;
        if enough(&sweep) {
            return sweep;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "{sweep:?}, {:?}", pool.summary());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn until(what: &str, done: impl Fn() -> bool) {
    crate::support::leaks::until(what, Duration::from_secs(60), done).await;
}
