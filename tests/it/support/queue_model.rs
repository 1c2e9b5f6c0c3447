//! The queue as it should be, in memory, beside the real one: each step is done to both, and the rows must be what the
//! model says. Everything happens one after the other; what happens at once is for the tests of races.

use super::fingerprint::fingerprint;
use super::queue::{Node, Queue, completed, ended, plain, requeued};
use agentpool::dispatch::rescuer::LeaseWatch;
use agentpool::dispatch::task_source::{
    AppendOutcome, Finish, FinishOutcome, FoundChanges, SourceError, TaskSource, TurnBegin, WorktreeFacts,
};
use agentpool::domain::agent::BackendKind;
use agentpool::domain::failure::FailureReason;
use agentpool::domain::task::{ClaimedTask, TaskStatus};
use agentpool::store::enqueue::NewTask;
use agentpool::store::sessions::Closed;
use std::time::Duration;
use uuid::Uuid;

pub const SESSIONS: usize = 5;
pub const NODES: usize = 3;
const AGENTS: [&str; 2] = ["a", "b"];
/// Longer than a test; [`Op::Later`] is when it is over.
const LONG: Duration = Duration::from_secs(3600);
/// At this loss of a node a task fails for good.
const LOSSES_MAX: i32 = 20;

/// One step. Numbers choose among what is there, modulo how much that is.
#[derive(Clone, Debug)]
pub enum Op {
    /// As the API does it.
    Enqueue {
        session: u8,
        agent: u8,
        priority: i16,
        when: When,
    },
    /// As psql does it, two rows in one statement.
    Insert {
        session: u8,
        agent: u8,
        when: When,
    },
    Admit {
        node: u8,
    },
    Claim {
        node: u8,
        hands: u8,
        agents: &'static [&'static str],
    },
    Renew(Pick),
    Begin(Pick),
    Append {
        lease: Pick,
        events: u8,
    },
    SaveWorktree(Pick),
    Finish {
        lease: Pick,
        end: End,
    },
    Cancel {
        task: u8,
    },
    Close {
        session: u8,
    },
    /// A node dies and starts again: it takes all of its past.
    Restart {
        node: u8,
    },
    /// A node takes what it may of all others, dead or not.
    Rescue {
        by: u8,
    },
    Rehome {
        dead: u8,
    },
    /// All that waits has waited long enough.
    Later,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    AtOnce,
    Past,
    Future,
}

/// A lease: one that is held, or any that ever was.
#[derive(Clone, Copy, Debug)]
pub enum Pick {
    Held(u8),
    Any(u8),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Completed,
    Failed,
    Cancelled,
    Drained,
    CrashedAndWaits,
}

impl End {
    fn of(self, task: &ClaimedTask) -> Finish {
        match self {
            Self::Completed => completed(task),
            Self::Cancelled => ended(task, TaskStatus::Cancelled),
            Self::Failed => Finish {
                status: TaskStatus::Failed,
                ..requeued(task, Duration::ZERO, FailureReason::BadRequest, true)
            },
            Self::Drained => requeued(task, Duration::ZERO, FailureReason::Drained, false),
            Self::CrashedAndWaits => requeued(task, LONG, FailureReason::AgentCrashed, true),
        }
    }
}

#[derive(Clone, Debug)]
struct Session {
    id: Uuid,
    /// The node of a local path.
    local: Option<usize>,
    open: bool,
    worktree: bool,
    lane: Option<Lane>,
}

#[derive(Clone, Debug, Default)]
struct Lane {
    admitted: i64,
    fence: i64,
    home: Option<usize>,
    /// Which of all leases holds it.
    lease: Option<usize>,
    head: Option<usize>,
    waits: bool,
    /// It waits, and its moment has come.
    woken: bool,
}

#[derive(Clone, Debug)]
struct Task {
    id: Uuid,
    session: usize,
    agent: usize,
    priority: i16,
    /// Without any `run_at`: the outlook counts it as work at hand.
    unscheduled: bool,
    /// Its `run_at` is still to come.
    future: bool,
    status: TaskStatus,
    position: Option<i64>,
    attempt: i32,
    failures: i32,
    losses: i32,
    fence: Option<i64>,
    cancel: bool,
    reason: Option<&'static str>,
    /// Events stored.
    said: i64,
}

impl Task {
    fn is_queued(&self) -> bool {
        self.status == TaskStatus::Queued
    }

    fn is_over(&self) -> bool {
        matches!(self.status, TaskStatus::Completed | TaskStatus::Failed | TaskStatus::Cancelled)
    }
}

struct Leased {
    claimed: ClaimedTask,
    task: usize,
    node: usize,
    held: bool,
}

/// The real queue and its model.
pub struct World<'a> {
    queue: &'a Queue,
    nodes: Vec<Node>,
    sessions: Vec<Session>,
    tasks: Vec<Task>,
    leases: Vec<Leased>,
}

impl<'a> World<'a> {
    /// An empty queue with three nodes and five sessions, one of them on a path of the first node.
    pub async fn new(queue: &'a Queue) -> Self {
        let empty = "TRUNCATE agentpool.tasks, agentpool.lanes, agentpool.session_streams, agentpool.task_messages,
                     agentpool.checkpoints, agentpool.pending_changes, agentpool.permission_requests, agentpool.permission_rules, agentpool.agent_sessions, agentpool.session_worktrees, agentpool.sessions,
                     agentpool.projects, agentpool.nodes";
        queue.sql.batch_execute(empty).await.unwrap();
        let mut nodes = Vec::new();
        for _ in 0..NODES {
            nodes.push(queue.node().await);
        }
        let mut sessions = Vec::new();
        for number in 0..SESSIONS {
            let local = (number == 0).then_some(0);
            let id = match local {
                Some(node) => queue.local_session(nodes[node].id).await,
                None => queue.session().await,
            };
            sessions.push(Session { id, local, open: true, worktree: false, lane: None });
        }
        Self { queue, nodes, sessions, tasks: Vec::new(), leases: Vec::new() }
    }

    /// Does all of it, and looks at every row after every step.
    pub async fn live(&mut self, history: &[Op]) {
        for (number, op) in history.iter().enumerate() {
            self.step(op).await;
            self.compare(&format!("after step {number}, {op:?}")).await;
        }
    }

    /// Runs what is left until nothing is: every task must come to its one end.
    pub async fn drain(&mut self) {
        for round in 0.. {
            assert!(
                round < 200,
                "it never ends: {:#?}",
                self.tasks.iter().filter(|task| !task.is_over()).collect::<Vec<_>>()
            );
            self.step(&Op::Later).await;
            for node in 0..NODES {
                self.admit(node).await;
                self.claim(node, 9, &AGENTS).await;
                while let Some(lease) = self.leases.iter().position(|lease| lease.held) {
                    self.finish(lease, End::Completed).await;
                }
            }
            if self.tasks.iter().all(Task::is_over) {
                break;
            }
        }
        self.compare("after the drain").await;
    }

    async fn step(&mut self, op: &Op) {
        match op {
            Op::Enqueue { session, agent, priority, when } => {
                let (session, agent) = (*session as usize % SESSIONS, *agent as usize % AGENTS.len());
                let run_at = match when {
                    When::AtOnce => None,
                    When::Past => Some(chrono::Utc::now() - LONG),
                    When::Future => Some(chrono::Utc::now() + LONG),
                };
                let task = NewTask {
                    agent: AGENTS[agent].into(),
                    priority: Some(*priority),
                    run_at,
                    ..plain(self.sessions[session].id, "x")
                };
                let id = self.queue.put(&task).await;
                self.note(id, session, agent, *priority, *when);
            }
            Op::Insert { session, agent, when } => self.insert(*session, *agent, *when).await,
            Op::Admit { node } => self.admit(*node as usize % NODES).await,
            Op::Claim { node, hands, agents } => {
                self.claim(*node as usize % NODES, *hands as u16, agents).await
            }
            Op::Cancel { task } => self.cancel(*task).await,
            Op::Close { session } => self.close(*session as usize % SESSIONS).await,
            Op::Restart { node } => self.restart(*node as usize % NODES).await,
            Op::Rescue { by } => self.rescue(*by as usize % NODES, false).await,
            Op::Rehome { dead } => self.rehome(*dead as usize % NODES).await,
            Op::Later => self.later().await,
            Op::Renew(pick) => {
                if let Some(lease) = self.pick(*pick) {
                    self.renew(lease).await;
                }
            }
            Op::Begin(pick) => {
                if let Some(lease) = self.pick(*pick) {
                    self.begin(lease).await;
                }
            }
            Op::Append { lease, events } => {
                if let Some(lease) = self.pick(*lease) {
                    self.append(lease, 1 + events % 3).await;
                }
            }
            Op::SaveWorktree(pick) => {
                if let Some(lease) = self.pick(*pick) {
                    self.save_worktree(lease).await;
                }
            }
            Op::Finish { lease, end } => {
                if let Some(lease) = self.pick(*lease) {
                    self.finish(lease, *end).await;
                }
            }
        }
    }

    fn pick(&self, pick: Pick) -> Option<usize> {
        let (number, all): (u8, Vec<usize>) = match pick {
            Pick::Held(number) => (number, (0..self.leases.len()).filter(|n| self.leases[*n].held).collect()),
            Pick::Any(number) => (number, (0..self.leases.len()).collect()),
        };
        (!all.is_empty()).then(|| all[number as usize % all.len()])
    }

    fn note(&mut self, id: Uuid, session: usize, agent: usize, priority: i16, when: When) {
        self.tasks.push(Task {
            id,
            session,
            agent,
            priority,
            unscheduled: when == When::AtOnce,
            future: when == When::Future,
            status: TaskStatus::Queued,
            position: None,
            attempt: 0,
            failures: 0,
            losses: 0,
            fence: None,
            cancel: false,
            reason: None,
            said: 0,
        });
    }

    async fn insert(&mut self, session: u8, agent: u8, when: When) {
        let (session, agent) = (session as usize % SESSIONS, agent as usize % AGENTS.len());
        let run_at = match when {
            When::AtOnce => "NULL",
            When::Past => "now() - interval '1 hour'",
            When::Future => "now() + interval '1 hour'",
        };
        let row = format!("('{}', '{}', 'x', {run_at})", self.sessions[session].id, AGENTS[agent]);
        let insert = format!(
            "INSERT INTO agentpool.tasks (session_id, agent, prompt, run_at) VALUES {row}, {row} RETURNING id, enqueued"
        );
        let mut rows = self.queue.sql.query(&insert, &[]).await.unwrap();
        rows.sort_by_key(|row| row.get::<_, i64>(1));
        for row in rows {
            self.note(row.get(0), session, agent, 0, when);
        }
    }

    fn queued_of(&self, session: usize) -> Vec<usize> {
        (0..self.tasks.len())
            .filter(|n| self.tasks[*n].session == session && self.tasks[*n].is_queued())
            .collect()
    }

    /// Head and waiting of a lane that nobody holds, from its tasks.
    fn settle(&mut self, session: usize) {
        let admitted = self.queued_of(session).into_iter().filter(|n| self.tasks[*n].position.is_some());
        let head = admitted.min_by_key(|n| self.tasks[*n].position);
        let waits = head.is_some_and(|head| self.tasks[head].future);
        let Some(lane) = &mut self.sessions[session].lane else { return };
        if lane.lease.is_none() {
            (lane.head, lane.waits, lane.woken) = (head, waits, false);
        }
    }

    async fn admit(&mut self, node: usize) {
        self.nodes[node].admit().await;
        for session in 0..SESSIONS {
            let queued = self.queued_of(session);
            let wants = |n: &usize| {
                let task = &self.tasks[*n];
                task.cancel || task.position.is_none() && !task.future
            };
            let woken = self.sessions[session].lane.as_ref().is_some_and(|lane| lane.woken);
            if !woken && !queued.iter().any(wants) {
                continue;
            }
            self.ensure_lane(session);
            let open = self.sessions[session].open;
            for n in queued {
                let task = &mut self.tasks[n];
                if task.cancel || !open {
                    task.status = TaskStatus::Cancelled;
                } else if task.position.is_none() && !task.future {
                    let lane = self.sessions[session].lane.as_mut().unwrap();
                    lane.admitted += 1;
                    task.position = Some(lane.admitted);
                }
            }
            self.settle(session);
        }
    }

    fn ensure_lane(&mut self, session: usize) {
        let session = &mut self.sessions[session];
        session.lane.get_or_insert_with(|| Lane { home: session.local, ..Lane::default() });
    }

    /// Sessions whose heads that node may take for these agents.
    fn eligible(&self, node: usize, agents: &[&str]) -> Vec<usize> {
        let may = |session: &usize| {
            let Some(lane) = &self.sessions[*session].lane else { return false };
            let Some(head) = lane.head else { return false };
            lane.lease.is_none()
                && !lane.waits
                && lane.home.is_none_or(|home| home == node)
                && agents.contains(&AGENTS[self.tasks[head].agent])
        };
        (0..SESSIONS).filter(may).collect()
    }

    /// The priority that a lane stands in line with.
    fn priority(&self, session: usize) -> i16 {
        let admitted = self.queued_of(session).into_iter().filter(|n| self.tasks[*n].position.is_some());
        admitted.map(|n| self.tasks[n].priority).max().unwrap_or(0)
    }

    async fn claim(&mut self, node: usize, hands: u16, agents: &[&str]) {
        let eligible = self.eligible(node, agents);
        let tick = self.nodes[node].tick(&[], hands, agents).await;
        let wanted = if agents.is_empty() { 0 } else { eligible.len().min(hands as usize) };
        assert_eq!(tick.claimed.len(), wanted, "{eligible:?} stood ready for {hands} hands");
        let session_of = |claimed: &ClaimedTask| {
            self.sessions
                .iter()
                .position(|session| session.id == claimed.lease.session.0)
                .expect("a session of ours")
        };
        let taken: Vec<usize> = tick.claimed.iter().map(session_of).collect();
        assert!(taken.iter().all(|session| eligible.contains(session)), "{taken:?} of {eligible:?}");
        let lowest_taken = taken.iter().map(|session| self.priority(*session)).min();
        let left = eligible.iter().filter(|session| !taken.contains(session));
        let highest_left = left.clone().map(|session| self.priority(*session)).max();
        assert!(lowest_taken.is_none() || highest_left <= lowest_taken, "a lower priority went first");
        let unadmitted = |task: &Task| task.is_queued() && task.position.is_none() && task.unscheduled;
        assert_eq!(tick.more, left.count() > 0 || self.tasks.iter().any(unadmitted), "whether there is more");
        for (session, claimed) in taken.into_iter().zip(tick.claimed) {
            self.take(node, session, claimed);
        }
        let scheduled = |task: &Task| task.is_queued() && task.position.is_none() && !task.unscheduled;
        let waits =
            |session: &Session| session.lane.as_ref().is_some_and(|lane| lane.lease.is_none() && lane.waits);
        let due = self.tasks.iter().any(scheduled) || self.sessions.iter().any(waits);
        assert_eq!(tick.due_in.is_some(), due, "whether something falls due");
    }

    fn take(&mut self, node: usize, session: usize, claimed: ClaimedTask) {
        let lease = self.leases.len();
        let lane = self.sessions[session].lane.as_mut().unwrap();
        let head = lane.head.expect("it was eligible");
        lane.fence += 1;
        lane.home = Some(node);
        lane.lease = Some(lease);
        let task = &mut self.tasks[head];
        let before = task.fence.replace(lane.fence);
        task.attempt += 1;
        task.status = TaskStatus::Dispatched;
        let told = (claimed.lease.task.0, claimed.lease.fence.0, claimed.attempt, claimed.failures);
        assert_eq!(told, (task.id, lane.fence, task.attempt, task.failures), "the head, the next fence");
        assert_eq!(claimed.previous_fence.map(|fence| fence.0), before);
        assert_eq!((claimed.last_seq, claimed.cancel_requested), (task.said, task.cancel));
        self.leases.push(Leased { claimed, task: head, node, held: true });
    }

    async fn renew(&mut self, lease: usize) {
        let before = self.print_unless_held(lease).await;
        let Leased { claimed, task, node, held } = &self.leases[lease];
        let renewed = self.nodes[*node].source.renew(&[claimed.lease]).await.unwrap();
        let told: Vec<bool> = renewed.iter().map(|renewed| renewed.cancel_requested).collect();
        assert_eq!(told, if *held { vec![self.tasks[*task].cancel] } else { Vec::new() });
        self.nothing_written_since(before).await;
    }

    async fn begin(&mut self, lease: usize) {
        let before = self.print_unless_held(lease).await;
        let Leased { claimed, task, node, held } = &self.leases[lease];
        let begin = TurnBegin {
            lease: claimed.lease,
            checkpoint: "c0ffee".into(),
            found: FoundChanges::default(),
            agent: claimed.agent.clone(),
            backend: BackendKind::Scripted,
            agent_session_id: "conversation".into(),
            server_port: None,
            config_hash: "h".into(),
        };
        let begun = self.nodes[*node].source.begin_turn(&begin).await;
        assert_held(begun, *held);
        if *held {
            self.tasks[*task].status = TaskStatus::Running;
        }
        self.nothing_written_since(before).await;
    }

    async fn save_worktree(&mut self, lease: usize) {
        let before = self.print_unless_held(lease).await;
        let Leased { claimed, task, node, held } = &self.leases[lease];
        let place = WorktreeFacts { path: "/srv/w".into(), base_commit: "c0de".into(), branch: "b".into() };
        assert_held(self.nodes[*node].source.save_worktree(&claimed.lease, &place).await, *held);
        if *held {
            self.sessions[self.tasks[*task].session].worktree = true;
        }
        self.nothing_written_since(before).await;
    }

    /// Appends twice, as after a lost answer: the second time nothing is written.
    async fn append(&mut self, lease: usize, events: u8) {
        let stale = self.print_unless_held(lease).await;
        let Leased { claimed, task, node, held } = &self.leases[lease];
        let (after, words) = (self.tasks[*task].said, vec!["said"; events as usize]);
        let expected = if *held { AppendOutcome::Done } else { AppendOutcome::LostLease };
        assert_eq!(self.nodes[*node].say(claimed.lease, after, &words).await, expected);
        if *held {
            let once = fingerprint(&self.queue.sql).await;
            assert_eq!(self.nodes[*node].say(claimed.lease, after, &words).await, expected);
            assert!(fingerprint(&self.queue.sql).await == once, "the same events again were written");
            self.tasks[*task].said += i64::from(events);
        }
        self.nothing_written_since(stale).await;
    }

    async fn finish(&mut self, lease: usize, end: End) {
        let before = self.print_unless_held(lease).await;
        let Leased { claimed, task, node, held } = &self.leases[lease];
        let (task, finish) = (*task, end.of(claimed));
        let reason = finish.failure.as_ref().map(|(reason, _)| reason.as_str());
        let outcome = self.nodes[*node].finish(std::slice::from_ref(&finish)).await;
        let fence = claimed.lease.fence.0;
        if !held {
            let row = &self.tasks[task];
            let is_back = finish.status == TaskStatus::Queued;
            let as_asked = row.status == finish.status || is_back && row.status == TaskStatus::Cancelled;
            // Told to be done only what was in fact written: the answer was lost.
            let was_written = row.fence == Some(fence) && as_asked && row.reason == reason;
            assert_eq!(outcome, [if was_written { FinishOutcome::Done } else { FinishOutcome::LostLease }]);
            return self.nothing_written_since(before).await;
        }
        assert_eq!(outcome, [FinishOutcome::Done]);
        let row = &mut self.tasks[task];
        let back = finish.status == TaskStatus::Queued;
        row.status = if back && row.cancel { TaskStatus::Cancelled } else { finish.status };
        row.future = row.is_queued() && !finish.wait.is_zero();
        row.unscheduled &= !row.is_queued();
        row.failures += i32::from(finish.charged);
        row.reason = reason;
        self.free(lease);
    }

    fn free(&mut self, lease: usize) {
        self.leases[lease].held = false;
        let session = self.tasks[self.leases[lease].task].session;
        self.sessions[session].lane.as_mut().unwrap().lease = None;
        self.settle(session);
    }

    async fn cancel(&mut self, number: u8) {
        if self.tasks.is_empty() {
            return;
        }
        let number = number as usize % self.tasks.len();
        let task = &mut self.tasks[number];
        let asked = self.queue.store.ask_cancel(task.id).await.unwrap();
        assert_eq!(asked, !task.is_over());
        task.cancel |= asked;
    }

    async fn close(&mut self, session: usize) {
        let closed = self.queue.store.close_session(self.sessions[session].id).await.unwrap();
        if self.sessions[session].lane.as_ref().is_some_and(|lane| lane.lease.is_some()) {
            return assert_eq!(closed, Closed::Busy);
        }
        if !self.sessions[session].open {
            return assert_eq!(closed, Closed::NotOpen);
        }
        assert!(matches!(closed, Closed::Done(_)), "{closed:?}");
        self.ensure_lane(session);
        self.sessions[session].open = false;
        for n in self.queued_of(session) {
            self.tasks[n].cancel = true;
        }
    }

    async fn restart(&mut self, node: usize) {
        self.nodes[node] = self.queue.start_of(self.nodes[node].id).await;
        self.rescue(node, true).await;
    }

    /// `own`: a new start of the node takes all of its past. Else what others hold, as far as it can move or is to end.
    async fn rescue(&mut self, by: usize, own: bool) {
        let me = self.nodes[by].id;
        let (mut seen, _) = self.nodes[by].source.look().await.unwrap();
        seen.retain(|lease| (lease.node == me) == own);
        let moved = self.nodes[by].source.rescue(&seen, own).await.unwrap();
        let mut taken = 0;
        for lease in 0..self.leases.len() {
            let Leased { task, node, held, .. } = &self.leases[lease];
            let session = &self.sessions[self.tasks[*task].session];
            let movable = session.local.is_none() && !session.worktree;
            if !held || (*node == by) != own || !(own || movable || self.tasks[*task].cancel) {
                continue;
            }
            let task = &mut self.tasks[*task];
            task.losses += 1;
            task.reason = (!task.cancel).then_some("node_lost");
            task.status = match task.cancel {
                true => TaskStatus::Cancelled,
                false if task.losses >= LOSSES_MAX => TaskStatus::Failed,
                false => TaskStatus::Queued,
            };
            if movable && !own {
                let session = task.session;
                self.sessions[session].lane.as_mut().unwrap().home = None;
            }
            self.free(lease);
            taken += 1;
        }
        assert_eq!(moved, taken);
    }

    async fn rehome(&mut self, dead: usize) {
        let by = (dead + 1) % NODES;
        self.nodes[by].source.rehome(&[self.nodes[dead].id]).await.unwrap();
        for session in &mut self.sessions {
            let movable = session.local.is_none() && !session.worktree;
            if let Some(lane) =
                session.lane.as_mut().filter(|lane| lane.lease.is_none() && lane.home == Some(dead))
                && movable
            {
                lane.home = None;
            }
        }
    }

    async fn later(&mut self) {
        let later = "UPDATE agentpool.tasks SET run_at = clock_timestamp() WHERE status = 'queued' AND run_at > clock_timestamp();
                     UPDATE agentpool.lanes SET wake_at = clock_timestamp() WHERE state = 3";
        self.queue.sql.batch_execute(later).await.unwrap();
        for task in self.tasks.iter_mut().filter(|task| task.is_queued()) {
            task.future = false;
        }
        for lane in self.sessions.iter_mut().filter_map(|session| session.lane.as_mut()) {
            lane.woken = lane.lease.is_none() && lane.waits;
        }
    }

    async fn print_unless_held(&self, lease: usize) -> Option<String> {
        if self.leases[lease].held { None } else { Some(fingerprint(&self.queue.sql).await) }
    }

    async fn nothing_written_since(&self, before: Option<String>) {
        if let Some(before) = before {
            let after = fingerprint(&self.queue.sql).await;
            assert!(after == before, "a stale lease wrote something: {before}\n\nbecame\n\n{after}");
        }
    }

    /// Every row is what the model says.
    async fn compare(&self, when: &str) {
        assert_eq!(self.task_rows().await, self.task_words(), "tasks {when}");
        assert_eq!(self.lane_rows().await, self.lane_words(), "lanes {when}");
        self.queue.assert_lanes_are_sound().await;
        let count = |wanted: fn(&Task) -> bool| self.tasks.iter().filter(|task| wanted(task)).count() as i64;
        let held = self.leases.iter().filter(|lease| lease.held).count() as i64;
        assert_eq!(self.queue.depth().await, (count(Task::is_queued), held), "depth {when}");
    }

    async fn task_rows(&self) -> Vec<String> {
        let query = "SELECT concat_ws(' ', id, status, coalesce(lane_position, 0), attempt, failures, losses, coalesce(fence, 0),
                            CASE WHEN cancel_requested_at IS NOT NULL THEN 'asked' END,
                            CASE WHEN finished_at IS NOT NULL THEN 'over' END, failure_reason)
                     FROM agentpool.tasks ORDER BY enqueued";
        self.queue.sql.query(query, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
    }

    fn task_words(&self) -> Vec<String> {
        let words = |task: &Task| {
            let mut words = vec![task.id.to_string(), task.status.as_str().to_owned()];
            words.push(task.position.unwrap_or(0).to_string());
            words.extend([task.attempt, task.failures, task.losses].map(|n| n.to_string()));
            words.push(task.fence.unwrap_or(0).to_string());
            words.extend(task.cancel.then(|| "asked".to_owned()));
            words.extend(task.is_over().then(|| "over".to_owned()));
            words.extend(task.reason.map(str::to_owned));
            words.join(" ")
        };
        self.tasks.iter().map(words).collect()
    }

    async fn lane_rows(&self) -> Vec<String> {
        let query = "SELECT concat_ws(' ', session_id, 'state', state, 'fence', fence, 'admitted', admitted, 'home', home_node,
                            'head', head_task, CASE WHEN state = 2 THEN concat_ws(' ', 'of', lease_node, 'said', last_seq)
                                                    ELSE concat_ws(' ', 'priority', prio) END)
                     FROM agentpool.lanes ORDER BY session_id";
        self.queue.sql.query(query, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
    }

    fn lane_words(&self) -> Vec<String> {
        let words = |(number, session): (usize, &Session)| {
            let lane = session.lane.as_ref()?;
            let state = match (lane.lease, lane.head) {
                (Some(_), _) => 2,
                (None, None) => 0,
                (None, Some(_)) if lane.waits => 3,
                (None, Some(_)) => 1,
            };
            let home = lane.home.map_or(Uuid::nil(), |node| self.nodes[node].id.0);
            let head = lane.head.map_or(String::new(), |head| format!(" {}", self.tasks[head].id));
            let (fence, admitted) = (lane.fence, lane.admitted);
            let rest = match lane.lease.map(|lease| &self.leases[lease]) {
                Some(lease) => {
                    format!("of {} said {}", self.nodes[lease.node].id, self.tasks[lease.task].said)
                }
                None => format!("priority {}", self.priority(number)),
            };
            Some(format!(
                "{} state {state} fence {fence} admitted {admitted} home {home} head{head} {rest}",
                session.id
            ))
        };
        let mut words: Vec<String> = self.sessions.iter().enumerate().filter_map(words).collect();
        words.sort();
        words
    }
}

fn assert_held(report: Result<(), SourceError>, held: bool) {
    match (report, held) {
        (Ok(()), true) | (Err(SourceError::LostLease), false) => {}
        (report, held) => panic!("held: {held}, told: {report:?}"),
    }
}
