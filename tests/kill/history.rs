//! The program that checks the history: reads what the triggers of `history.sql` wrote down, and the rows as they stand at the
//! end.

use crate::load::Submitted;
use crate::mutants::Mutant;
use crate::nodes::{Nodes, role};
use crate::support::cluster::TestDatabase;
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;
use tokio::time::Instant;
use tokio_postgres::{Client, NoTls};
use uuid::Uuid;

pub struct Audit {
    client: Client,
}

/// One line of the history.
struct Line {
    what: String,
    session: Uuid,
    task: Option<Uuid>,
    fence: Option<i64>,
    node: Option<Uuid>,
    note: String,
}

const FINAL: [&str; 3] = ["completed", "failed", "cancelled"];

impl Audit {
    /// From here on everything is written down.
    pub async fn begin(database: &TestDatabase, nodes: &Nodes, mutant: Mutant) -> Self {
        let (client, connection) = database.config.connect(NoTls).await.unwrap();
        tokio::spawn(connection);
        client.batch_execute(include_str!("history.sql")).await.unwrap();
        client.batch_execute(mutant.sql()).await.unwrap();
        for (number, node) in nodes.all.iter().enumerate() {
            let writer = "INSERT INTO audit.writers (role, node) VALUES ($1, $2)";
            client.execute(writer, &[&role(number), &node.place.node_id()]).await.unwrap();
        }
        Self { client }
    }

    /// Enough for the run that looks for nothing else.
    pub async fn has_seen_a_zombie(&self, mutant: Mutant) -> bool {
        mutant == Mutant::NoFence && !self.zombies().await.is_empty()
    }

    pub async fn zombies(&self) -> Vec<String> {
        let lines = self.history().await;
        let zombies = lines.iter().filter(|line| line.what == "zombie");
        zombies
            .map(|line| format!("a zombie on {:?} wrote {} of {}", line.node, line.note, line.session))
            .collect()
    }

    /// Waits until every task has ended: for as long as now and then one does, since how many are left depends on the machine.
    pub async fn until_drained(&self, stall: Duration) -> Result<(), String> {
        let begun = Instant::now();
        let (mut least, mut last_end) = (i64::MAX, begun);
        loop {
            let left = "SELECT count(*) FROM agentpool.tasks WHERE finished_at IS NULL";
            let left: i64 = self.client.query_one(left, &[]).await.unwrap().get(0);
            if left == 0 {
                println!("   drained in {} s", begun.elapsed().as_secs());
                return Ok(());
            }
            if left < least {
                (least, last_end) = (left, Instant::now());
            }
            if last_end.elapsed() >= stall {
                return Err(format!(
                    "lost: {left} tasks are left and none ended for {} s: {}",
                    stall.as_secs(),
                    self.heads().await
                ));
            }
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
    }

    /// What stands at the head of each lane that has work left, and who could do it.
    async fn heads(&self) -> String {
        let heads = "SELECT DISTINCT ON (t.session_id)
                            format('%s (%s, %s, attempt %s, due %s, %s); lane %s of node %s, lease %s; project of node %s',
                                   t.id, t.agent, t.status, t.attempt, l.due - clock_timestamp(),
                                   coalesce(t.failure_reason, 'no failure'), l.state, l.home_node, l.lease_until - clock_timestamp(),
                                   p.node_id)
                     FROM agentpool.tasks t
                     LEFT JOIN agentpool.lanes l ON l.session_id = t.session_id
                     JOIN agentpool.sessions s ON s.id = t.session_id
                     JOIN agentpool.projects p ON p.id = s.project_id
                     WHERE t.finished_at IS NULL ORDER BY t.session_id, t.lane_position";
        match self.client.query(heads, &[]).await {
            Ok(rows) => rows.iter().map(|row| format!("\n      {}", row.get::<_, String>(0))).collect(),
            Err(error) => format!("(the heads could not be read: {error})"),
        }
    }

    /// Everything that is not as promised.
    pub async fn check(&self, submitted: &[Submitted]) -> Vec<String> {
        let lines = self.history().await;
        let mut found = self.zombies().await;
        found.extend(ends(submitted, &lines));
        found.extend(leases(&lines, &self.homes().await));
        found.extend(order(&lines, &self.positions().await));
        found.extend(self.results(submitted).await);
        found.extend(self.gaps().await);
        let count = |what| lines.iter().filter(|line| line.what == what).count();
        let takeovers = count("leased").saturating_sub(submitted.len());
        println!(
            "   {} leases, of which {takeovers} were repeats; {} lines of history",
            count("leased"),
            lines.len()
        );
        found
    }

    async fn history(&self) -> Vec<Line> {
        let rows = self
            .client
            .query("SELECT what, session_id, task_id, fence, node, coalesce(note, '') FROM audit.history ORDER BY n", &[])
            .await
            .unwrap();
        let line = |row: &tokio_postgres::Row| Line {
            what: row.get(0),
            session: row.get(1),
            task: row.get(2),
            fence: row.get(3),
            node: row.get(4),
            note: row.get(5),
        };
        rows.iter().map(line).collect()
    }

    /// Sessions that only one node may run.
    async fn homes(&self) -> HashMap<Uuid, Uuid> {
        let query = "SELECT s.id, p.node_id FROM agentpool.sessions s JOIN agentpool.projects p ON p.id = s.project_id
                     WHERE p.node_id IS NOT NULL";
        self.client.query(query, &[]).await.unwrap().iter().map(|row| (row.get(0), row.get(1))).collect()
    }

    async fn positions(&self) -> HashMap<Uuid, i64> {
        let query = "SELECT id, lane_position FROM agentpool.tasks WHERE lane_position IS NOT NULL";
        self.client.query(query, &[]).await.unwrap().iter().map(|row| (row.get(0), row.get(1))).collect()
    }

    /// Accepted results are there: the answer, and the file as a change, once.
    async fn results(&self, submitted: &[Submitted]) -> Vec<String> {
        let query = "SELECT t.id, t.status, coalesce(t.output, ''), coalesce(t.error, ''),
                            (SELECT count(*) FROM agentpool.pending_changes c
                             WHERE c.task_id = t.id AND c.status = 'pending' AND c.file_path LIKE 'file-%')
                     FROM agentpool.tasks t";
        let rows = self.client.query(query, &[]).await.unwrap();
        let rows: HashMap<Uuid, (String, String, String, i64)> =
            rows.iter().map(|row| (row.get(0), (row.get(1), row.get(2), row.get(3), row.get(4)))).collect();
        let mut found = Vec::new();
        for wanted in submitted {
            let Some((status, output, error, changes)) = rows.get(&wanted.task) else { continue };
            let task = wanted.task;
            match status.as_str() {
                "completed" => {
                    let says = output.matches(&wanted.word).count();
                    if !wanted.word.is_empty() && says != 1 {
                        found.push(format!(
                            "{task}: the answer holds {:?} {says} times: {output:?}",
                            wanted.word
                        ));
                    }
                    if *changes != i64::from(wanted.file.is_some()) {
                        found.push(format!("{task}: {changes} changes for {:?}", wanted.file));
                    }
                }
                "cancelled" if wanted.cancelled => {}
                // Nothing here is the task's own fault but the death of its agent, three times.
                "failed" if error.contains("agent was lost") => {}
                status => found.push(format!("{task} ended as {status}: {error}")),
            }
        }
        found
    }

    /// The numbers of a task's events follow each other, and so do the positions of a session's.
    async fn gaps(&self) -> Vec<String> {
        let query = "SELECT 'task ' || task_id FROM agentpool.task_messages GROUP BY task_id
                     HAVING count(*) <> max(seq) OR min(seq) <> 1
                     UNION ALL
                     SELECT 'session ' || session_id FROM agentpool.task_messages GROUP BY session_id
                     HAVING count(*) <> max(pos) OR min(pos) <> 1 OR count(DISTINCT pos) <> count(*)";
        let rows = self.client.query(query, &[]).await.unwrap();
        rows.iter().map(|row| format!("the events of {} have gaps", row.get::<_, String>(0))).collect()
    }
}

/// Every acknowledged task has exactly one end, and nothing after it.
fn ends(submitted: &[Submitted], lines: &[Line]) -> Vec<String> {
    let mut ends: HashMap<Uuid, Vec<&str>> = HashMap::new();
    for line in lines.iter().filter(|line| line.what == "status") {
        let (before, after) = line.note.split_once('>').unwrap();
        if FINAL.contains(&before) || FINAL.contains(&after) {
            ends.entry(line.task.unwrap()).or_default().push(&line.note);
        }
    }
    let mut found = Vec::new();
    for task in submitted {
        match ends.get(&task.task).map_or(0, Vec::len) {
            1 => {}
            0 => found.push(format!("{} was acknowledged and never ended", task.task)),
            _ => found.push(format!("{} ended more than once: {:?}", task.task, ends[&task.task])),
        }
    }
    found
}

/// One lease at a time, fences only grow, and a lane with a home is leased by its home alone.
fn leases(lines: &[Line], homes: &HashMap<Uuid, Uuid>) -> Vec<String> {
    let mut found = Vec::new();
    let mut held: HashMap<Uuid, i64> = HashMap::new();
    let mut newest: HashMap<Uuid, i64> = HashMap::new();
    for line in lines {
        let fence = line.fence.unwrap_or_default();
        match line.what.as_str() {
            "leased" => {
                if held.insert(line.session, fence).is_some() {
                    found.push(format!("{} was leased twice at a time", line.session));
                }
                if newest.insert(line.session, fence).is_some_and(|before| before >= fence) {
                    found.push(format!("the fence of {} did not grow", line.session));
                }
                if homes.get(&line.session).is_some_and(|home| Some(*home) != line.node) {
                    found.push(format!("{} was leased away from its home", line.session));
                }
            }
            "freed" => drop(held.remove(&line.session)),
            _ => {}
        }
    }
    found
}

/// A lane is first in, first out: a task is leased only when all before it have ended.
fn order(lines: &[Line], positions: &HashMap<Uuid, i64>) -> Vec<String> {
    let mut found = Vec::new();
    let mut open: HashMap<Uuid, BTreeMap<i64, Uuid>> = HashMap::new();
    let mut sessions: HashMap<Uuid, Uuid> = HashMap::new();
    for line in lines.iter().filter_map(|line| line.task.map(|task| (task, line.session))) {
        sessions.insert(line.0, line.1);
    }
    for (task, session) in &sessions {
        if let Some(position) = positions.get(task) {
            open.entry(*session).or_default().insert(*position, *task);
        }
    }
    for line in lines {
        let Some(task) = line.task else { continue };
        let lane = open.entry(line.session).or_default();
        match line.what.as_str() {
            "leased" if lane.first_key_value().is_some_and(|(_, first)| *first != task) => {
                found.push(format!("{task} was leased before its turn in {}", line.session));
            }
            "status" if FINAL.iter().any(|end| line.note.ends_with(end)) => {
                lane.retain(|_, queued| *queued != task);
            }
            _ => {}
        }
    }
    found
}
