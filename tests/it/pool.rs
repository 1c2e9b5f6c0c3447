//! The pool as people see it: what it counts, what it gives back and why, and what agents weigh.

use crate::support::cli::User;
use crate::support::node::TestNode;
use agentpool::wire::health::HealthView;
use agentpool::wire::pool::PoolView;

#[tokio::test(flavor = "multi_thread")]
async fn the_pool_tells_how_conversations_came_to_be_and_how_long_that_took() {
    let node = TestNode::scripted().await;
    let session = node.session().await;
    for _ in 0..3 {
        assert_eq!(node.turn(session.id, "scripted", "SAY: hi").await.status, "completed");
    }
    let counters = node.get::<PoolView>("/api/pool").await.counters;
    assert_eq!((counters.hits, counters.new, counters.resumed, counters.failed), (2, 1, 0, 0), "{counters:?}");
    assert_eq!((counters.warm.count, counters.cold.count), (2, 1));
    assert!(counters.cold.max_ms >= counters.cold.last_ms && counters.cold.p50_ms.is_some(), "{counters:?}");
    let health: HealthView = node.get("/healthz").await;
    assert_eq!((health.hits, health.misses, health.lost), (2, 1, 0));
    let user = User::of(&node.url).with("AGENTPOOL_TOKEN", node.token.clone());
    let shown = user.run(&["pool"]).await.expect(0).stdout;
    assert!(shown.contains("conversations: 2 warm, 1 new\n") && shown.contains("ready after: warm "), "{shown}");
    let json = user.run(&["pool", "--json"]).await.expect(0).json();
    assert_eq!(json["counters"]["hits"], 2);
    node.stop().await;
}
