//! All rows of a database as one text: equal texts, and nothing was written.

use tokio_postgres::Client;

/// Not looked at: what a living node writes by itself (when it was last seen, that the database can be written).
const BY_ITSELF: &str = "'nodes', 'write_probe', 'refinery_schema_history'";

/// Every row of every table of ours but those that a node writes by itself.
pub async fn fingerprint(sql: &Client) -> String {
    let tables = format!(
        "SELECT string_agg(format('SELECT %L || coalesce(string_agg(r::text, e''\\n'' ORDER BY r::text), '''') FROM agentpool.%I r',
                                  relname || ': ', relname), ' UNION ALL ' ORDER BY relname)
         FROM pg_class WHERE relnamespace = 'agentpool'::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition
           AND relname NOT IN ({BY_ITSELF})"
    );
    let all: String = sql.query_one(&tables, &[]).await.unwrap().get(0);
    let rows = sql.query(&all, &[]).await.unwrap();
    rows.iter().map(|row| row.get::<_, String>(0)).collect::<Vec<_>>().join("\n\n")
}
