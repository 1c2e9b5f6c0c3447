//! A cluster comes up from nothing, stays durable, and goes with its owner.

use crate::support::cluster::fresh_database;
use tokio_postgres::NoTls;

#[tokio::test]
async fn every_test_gets_an_empty_database_of_its_own() {
    let (one, two) = tokio::join!(fresh_database(), fresh_database());
    assert_ne!(one.name, two.name);
    let (client, connection) = one.config.connect(NoTls).await.unwrap();
    tokio::spawn(connection);
    let row = client.query_one("SELECT current_database()::text, current_user::text", &[]).await.unwrap();
    assert_eq!((row.get::<_, &str>(0), row.get::<_, &str>(1)), (one.name.as_str(), "agentpool"));
}
