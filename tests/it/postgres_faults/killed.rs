//! The real program with its embedded Postgres, of which parts are killed.

use crate::support::node::PATIENCE;
use crate::support::serve::Place;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::time::Duration;
use tokio_postgres::{Client, Config, NoTls};

/// The program's own database, as `psql` would reach it.
struct Inside<'a>(&'a Place);

impl Inside<'_> {
    /// The postmaster's pid and the folder of its socket; none while it starts.
    fn postmaster(&self) -> Option<(i32, String)> {
        let file = fs::read_to_string(self.0.data().join("postgres/postmaster.pid")).ok()?;
        let lines: Vec<&str> = file.lines().collect();
        Some((lines.first()?.parse().ok()?, (*lines.get(4)?).to_owned()))
    }

    async fn try_sql(&self) -> Option<Client> {
        let (_, folder) = self.postmaster()?;
        let (client, connection) = Config::new()
            .host_path(folder)
            .user("agentpool")
            .dbname("agentpool")
            .connect(NoTls)
            .await
            .ok()?;
        tokio::spawn(connection);
        Some(client)
    }

    /// The one number that a query answers, once the database answers.
    async fn number(&self, query: &str) -> i64 {
        let asking = async {
            loop {
                if let Some(sql) = self.try_sql().await
                    && let Ok(row) = sql.query_one(query, &[]).await
                {
                    return row.get(0);
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, asking).await.expect("the database comes back")
    }

    async fn completed(&self) -> i64 {
        self.number("SELECT count(*) FROM agentpool.tasks WHERE status = 'completed'").await
    }

    /// Waits until so many more tasks have completed, or all.
    async fn work_goes_on(&self, more: i64, all: i64) {
        let goal = (self.completed().await + more).min(all);
        let working = async {
            while self.completed().await < goal {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(PATIENCE, working).await.expect("work goes on");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn f23_f24_a_killed_backend_and_a_killed_postmaster_cost_no_task_and_no_failure() {
    let place = Place::new("[agents.scripted]\nbackend = \"scripted\"");
    let served = place.serve().await;
    let inside = Inside(&place);
    let mut all = 0;
    for _ in 0..4 {
        let session = served.talk.session().await.id;
        for number in 0..12 {
            served.talk.submit(session, "scripted", &format!("SLOW:10\nSAY: {number}")).await;
            all += 1;
        }
    }
    for _ in 0..2 {
        inside.work_goes_on(4, all).await;
        let backend = "SELECT pid::int8 FROM pg_stat_activity WHERE application_name = 'agentpool'
                       ORDER BY random() LIMIT 1";
        let pid = i32::try_from(inside.number(backend).await).unwrap();
        kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    }
    inside.work_goes_on(4, all).await;
    let (postmaster, _) = inside.postmaster().unwrap();
    kill(Pid::from_raw(postmaster), Signal::SIGKILL).unwrap();
    let replaced = async {
        while inside.postmaster().is_none_or(|(pid, _)| pid == postmaster) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, replaced).await.expect("another one is started");
    inside.work_goes_on(all, all).await;

    let clean = "SELECT count(*) FROM agentpool.tasks WHERE status = 'completed' AND failures = 0";
    assert_eq!(inside.number(clean).await, all);
    let ends =
        "SELECT count(*) FROM agentpool.task_messages WHERE type = 'turn_ended' AND content = 'completed'";
    assert_eq!(inside.number(ends).await, all);
    served.signal(Signal::SIGTERM);
    let (status, said) = served.ended().await;
    assert_eq!(status.code(), Some(0), "{said:#?}");
    place.nothing_is_left();
}
