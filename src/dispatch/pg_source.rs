//! The task source over the store: conversions between the engine's words and rows. The only file of the engine that names
//! the store. Never decides anything.

mod rows;

use super::interview::row_id;
use super::rescuer::{self, Foreign, LeaseWatch, NodeSeen};
use super::task_source::{
    AppendOutcome, EventBatch, Finish, InterruptedTree, LastCheckpoint, PermissionAsk, ProjectPlace, Renewed,
    SourceError, Standing, StoredConversation, TaskSource, Tick, TurnBegin, TurnFacts, TurnResult, Wake,
    Want, WorktreeFacts,
};
use crate::domain::agent::{AgentName, BackendKind, PermissionRule};
use crate::domain::change::BY_USER;
use crate::domain::failure::FailureReason;
use crate::domain::ids::{Fence, Incarnation, NodeId, SessionId, TaskId};
use crate::domain::permission::{PermissionAnswer, PermissionDecision};
use crate::domain::permission_rule::StandingRule;
use crate::domain::session::{AgentSessionStatus, SessionKey};
use crate::domain::task::{Lease, TaskStatus};
use crate::domain::text;
use crate::store::events::{Appended, NewBatch};
use crate::store::leases::ForeignLease;
use crate::store::listener::{Hint, Listener};
use crate::store::queue::{ClaimWish, FinishRow};
use crate::store::turns::{BeginRow, ChangeRow, ConversationRow, PlaceRow, ResultRow, UsageRow};
use crate::store::{Store, StoreError};
use crate::wire;
use async_trait::async_trait;
use rows::{
    by_deadline, by_rule, claimed_task, finish_outcome, finish_row, new_batch, new_permission, standing_of,
};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::broadcast;

/// How many earlier turns are read to be told again.
const TRANSCRIPT_TURNS_MAX: i64 = 50;

/// A node's way to its queue.
pub struct PgSource {
    store: Store,
    node: NodeId,
    incarnation: Incarnation,
    wakes: broadcast::Sender<Wake>,
    /// The connection of the last look, by the moment at which it was made.
    watched: Mutex<Option<Instant>>,
}

impl PgSource {
    /// The source of one start of one node. Hints of the listener become wakes while the returned future runs; its owner
    /// awaits it.
    pub fn new(
        store: Store,
        node: NodeId,
        incarnation: Incarnation,
        listener: &Listener,
    ) -> (Self, impl Future<Output = ()> + Send + use<>) {
        // 64 wakes: a reader that lags is woken by the lag.
        let (wakes, _) = broadcast::channel(64);
        let forward = forward(listener.hints.subscribe(), wakes.clone());
        (Self { store, node, incarnation, wakes, watched: Mutex::new(None) }, forward)
    }
}

async fn forward(mut hints: broadcast::Receiver<Hint>, wakes: broadcast::Sender<Wake>) {
    loop {
        let wake = match hints.recv().await {
            Ok(Hint::TasksNew) => Wake::Work,
            Ok(Hint::TasksCancel) => Wake::Cancel,
            Ok(Hint::PermissionsAnswered) => Wake::Answer,
            Ok(Hint::SessionEvents(_)) => continue,
            Ok(Hint::Reconnected) | Err(broadcast::error::RecvError::Lagged(_)) => Wake::Everything,
            Err(broadcast::error::RecvError::Closed) => return,
        };
        // Nobody listening yet is no error.
        let _ = wakes.send(wake);
    }
}

impl From<StoreError> for SourceError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unavailable(_)
            | StoreError::Exhausted
            | StoreError::Pooler(_)
            | StoreError::NotAdmitted(_)
            | StoreError::Busy(_)
            | StoreError::ReadOnly(_) => Self::Unavailable(Box::new(error)),
            StoreError::BadValue(_) | StoreError::Refused { .. } => Self::BadValue(Box::new(error)),
            StoreError::NotAllowed(_) | StoreError::Statement(_) => Self::Failed(Box::new(error)),
        }
    }
}

#[async_trait]
impl TaskSource for PgSource {
    async fn admit(&self) -> Result<(), SourceError> {
        self.store.admit().await?;
        Ok(())
    }

    async fn tick(&self, finishes: &[Finish], want: &Want) -> Result<Tick, SourceError> {
        let rows: Vec<FinishRow> = finishes.iter().map(finish_row).collect();
        let wish = ClaimWish {
            node: self.node.0,
            incarnation: self.incarnation.0,
            hands: want.hands,
            agents: want.agents.iter().map(|agent| agent.as_str().to_owned()).collect(),
        };
        let answer = self.store.tick(&rows, &wish).await?;
        Ok(Tick {
            finished: answer.finished.into_iter().map(finish_outcome).collect(),
            claimed: answer.claimed.into_iter().filter_map(claimed_task).collect(),
            more: answer.more,
            due_in: answer.due_in_secs.map(|secs| Duration::from_secs_f64(secs.clamp(0.0, 86_400.0))),
        })
    }

    async fn renew(&self, held: &[Lease]) -> Result<Vec<Renewed>, SourceError> {
        let held: Vec<_> = held.iter().map(|lease| (lease.session.0, lease.fence.0)).collect();
        let renewed = self.store.renew(&held).await?;
        Ok(renewed
            .into_iter()
            .map(|(session, fence, cancel_requested)| Renewed {
                session: SessionId(session),
                fence: Fence(fence),
                cancel_requested,
            })
            .collect())
    }

    async fn cancels_asked(&self, tasks: &[TaskId]) -> Result<Vec<TaskId>, SourceError> {
        let tasks: Vec<_> = tasks.iter().map(|task| task.0).collect();
        Ok(self.store.cancels_asked(&tasks).await?.into_iter().map(TaskId).collect())
    }

    async fn append(&self, batches: &[EventBatch]) -> Result<Vec<AppendOutcome>, SourceError> {
        let rows: Vec<NewBatch> = batches.iter().map(new_batch).collect();
        let outcomes = self.store.append(&rows, self.node.0).await?;
        Ok(outcomes
            .into_iter()
            .map(|outcome| match outcome {
                Appended::Done => AppendOutcome::Done,
                Appended::Gap { expected } => AppendOutcome::Gap { expected },
                Appended::LostLease => AppendOutcome::LostLease,
            })
            .collect())
    }

    async fn facts(&self, lease: &Lease, agent: &AgentName) -> Result<TurnFacts, SourceError> {
        let facts = self.store.turn_facts(lease.session.0, agent.as_str(), self.node.0, lease.task.0).await?;
        let facts = facts.ok_or(SourceError::LostLease)?;
        let here = facts.agent_session_node == Some(self.node.0);
        let closed = facts.agent_session_status.as_deref() == Some(AgentSessionStatus::Closed.as_str());
        let usable = here && !closed && facts.poisoned_reason.is_none();
        Ok(TurnFacts {
            title: facts.title,
            open: facts.session_status == "open",
            permission: facts.permission_policy.as_deref().and_then(PermissionRule::parse),
            project: match (facts.path, facts.url) {
                (Some(path), _) => ProjectPlace::Path(PathBuf::from(path)),
                (None, url) => ProjectPlace::Url(url.unwrap_or_default()),
            },
            conversation_lost: facts.agent_session_id.is_some() && !usable,
            resume: facts.agent_session_id.filter(|_| usable).map(|id| StoredConversation {
                id,
                backend: facts.backend.as_deref().and_then(BackendKind::parse),
                config_hash: facts.config_hash,
            }),
            has_worktree: facts.base_commit.is_some(),
            checkpoint_before: facts.checkpoint_before,
            last_checkpoint: facts.last_checkpoint.map(|commit| LastCheckpoint {
                commit,
                unfinished: facts
                    .last_turn
                    .and_then(|(task, agent)| Some((TaskId(task), AgentName::new(agent).ok()?))),
            }),
            earlier_fences: facts.earlier_fences.into_iter().map(Fence).collect(),
        })
    }

    async fn save_worktree(&self, lease: &Lease, worktree: &WorktreeFacts) -> Result<(), SourceError> {
        let place = PlaceRow {
            path: worktree.path.to_string_lossy().into_owned(),
            base_commit: worktree.base_commit.clone(),
            branch: worktree.branch.clone(),
        };
        held(self.store.save_worktree((lease.session.0, lease.fence.0), self.node.0, &place).await?)
    }

    async fn save_interrupted(&self, lease: &Lease, tree: &InterruptedTree) -> Result<(), SourceError> {
        let lane = (lease.session.0, lease.fence.0);
        let by = (lease.task.0, tree.agent.as_str());
        let changes: Vec<ChangeRow> = tree.changes.iter().map(ChangeRow::from).collect();
        held(self.store.save_interrupted(lane, by, (&tree.commit, &changes), self.node.0).await?)
    }

    async fn begin_turn(&self, begin: &TurnBegin) -> Result<(), SourceError> {
        let row = BeginRow {
            session: begin.lease.session.0,
            fence: begin.lease.fence.0,
            task: begin.lease.task.0,
            node: self.node.0,
            checkpoint: begin.checkpoint.clone(),
            found_by: match &begin.found.by {
                Some((task, agent)) => (Some(task.0), agent.as_str().to_owned()),
                None => (None, BY_USER.to_owned()),
            },
            found: begin.found.changes.iter().map(ChangeRow::from).collect(),
            conversation: ConversationRow {
                agent: begin.agent.as_str().to_owned(),
                backend: begin.backend.as_str(),
                agent_session_id: text::clean(begin.agent_session_id.clone()),
                server_port: begin.server_port.map(i32::from),
                status: AgentSessionStatus::Active.as_str(),
                config_hash: begin.config_hash.clone(),
            },
        };
        held(self.store.begin_turn(&row).await?)
    }

    async fn store_result(&self, result: &TurnResult) -> Result<(), SourceError> {
        let row = ResultRow {
            session: result.lease.session.0,
            fence: result.lease.fence.0,
            task: result.lease.task.0,
            node: self.node.0,
            agent: result.agent.as_str().to_owned(),
            output: result.output.clone().map(text::clean),
            checkpoint: result.checkpoint.clone(),
            changes: result.changes.iter().map(ChangeRow::from).collect(),
            usage: result.usage.as_ref().map(|(model, usage)| UsageRow {
                model: text::clean(model.clone()),
                tokens: [
                    usage.input_tokens,
                    usage.output_tokens,
                    usage.reasoning_tokens,
                    usage.cache_read_tokens,
                    usage.cache_write_tokens,
                ],
                cost_usd: usage.cost_usd,
            }),
        };
        held(self.store.store_result(&row).await?)
    }

    async fn transcript(&self, key: &SessionKey, but: TaskId) -> Result<Vec<(String, String)>, SourceError> {
        let mut turns =
            self.store.transcript(key.session.0, key.agent.as_str(), but.0, TRANSCRIPT_TURNS_MAX).await?;
        turns.reverse();
        Ok(turns)
    }

    async fn standing_rules(
        &self,
        lease: &Lease,
        agent: &AgentName,
    ) -> Result<Vec<StandingRule>, SourceError> {
        Ok(self.store.standing_rules(lease.session.0, agent.as_str()).await?)
    }

    async fn ask_permission(
        &self,
        lease: &Lease,
        agent: &AgentName,
        ask: &PermissionAsk,
    ) -> Result<(), SourceError> {
        held(self.store.ask_permission(&new_permission(lease, agent, ask)).await?.is_some())
    }

    async fn take_answers(&self, turns: &[Lease]) -> Result<Vec<(TaskId, PermissionAnswer)>, SourceError> {
        let turns: Vec<_> = turns.iter().map(|lease| (lease.task.0, lease.fence.0)).collect();
        let answers = self.store.take_answers(&turns).await?;
        Ok(answers
            .into_iter()
            .map(|(task, agent_request_id, answer)| {
                let decision = wire::permission::from_json(answer);
                (TaskId(task), PermissionAnswer { agent_request_id, decision })
            })
            .collect())
    }

    async fn expire_permission(
        &self,
        lease: &Lease,
        request: &str,
        answer: &PermissionDecision,
    ) -> Result<Standing, SourceError> {
        let (task, fence, request) = (lease.task.0, lease.fence.0, row_id(request));
        standing_of(self.store.settle_permission(task, fence, &request, &by_deadline(answer)).await?)
    }

    async fn answer_by_rule(
        &self,
        lease: &Lease,
        request: &str,
        rule: &StandingRule,
    ) -> Result<PermissionDecision, SourceError> {
        let (task, fence, request) = (lease.task.0, lease.fence.0, row_id(request));
        match standing_of(self.store.settle_permission(task, fence, &request, &by_rule(rule)).await?)? {
            Standing::Expired => Ok(rule.answer()),
            Standing::Answered(decision) => Ok(decision),
        }
    }

    fn wakes(&self) -> broadcast::Receiver<Wake> {
        self.wakes.subscribe()
    }
}

#[async_trait]
impl LeaseWatch for PgSource {
    fn me(&self) -> (NodeId, Incarnation) {
        (self.node, self.incarnation)
    }

    async fn look(&self) -> Result<(Vec<Foreign>, Vec<NodeSeen>), SourceError> {
        let look = self.store.look(self.incarnation.0).await?;
        // The pool replaces a broken connection in silence, and behind it may lie an outage of everybody.
        let before = self.watched.lock().unwrap_or_else(PoisonError::into_inner).replace(look.connected_at);
        if before.is_some_and(|before| before != look.connected_at) {
            return Err(SourceError::Unavailable("the connection of the watch was replaced".into()));
        }
        let leases = look.leases.into_iter().map(|row| Foreign {
            session: SessionId(row.session),
            fence: Fence(row.fence),
            node: NodeId(row.node),
            incarnation: Incarnation(row.incarnation),
            lease_until: row.lease_until,
        });
        let nodes = look.nodes.into_iter().map(|row| NodeSeen {
            id: NodeId(row.id),
            incarnation: Incarnation(row.incarnation),
            alive: row.alive,
        });
        Ok((leases.collect(), nodes.collect()))
    }

    async fn own(&self) -> Result<Vec<Lease>, SourceError> {
        let rows = self.store.own_leases(self.incarnation.0).await?;
        Ok(rows.into_iter().map(|(session, fence, task)| rescuer::lease(session, fence, task)).collect())
    }

    async fn rescue(&self, leases: &[Foreign], whole: bool) -> Result<usize, SourceError> {
        let rows: Vec<ForeignLease> = leases
            .iter()
            .map(|lease| ForeignLease {
                session: lease.session.0,
                fence: lease.fence.0,
                node: lease.node.0,
                incarnation: lease.incarnation.0,
                lease_until: lease.lease_until,
            })
            .collect();
        Ok(self.store.rescue(&rows, whole).await?.len())
    }

    async fn give_back(&self, lease: &Lease) -> Result<(), SourceError> {
        let failure =
            Some((FailureReason::NodeLost, "the node took this task and did not start it".to_owned()));
        let finish = Finish {
            lease: *lease,
            status: TaskStatus::Queued,
            wait: Duration::ZERO,
            failure,
            charged: false,
            conversation: None,
        };
        self.tick(&[finish], &Want { hands: 0, agents: Vec::new() }).await?;
        Ok(())
    }

    async fn rehome(&self, dead: &[NodeId]) -> Result<(), SourceError> {
        let dead: Vec<_> = dead.iter().map(|node| node.0).collect();
        self.store.rehome(&dead).await?;
        Ok(())
    }
}

fn held(held: bool) -> Result<(), SourceError> {
    if held { Ok(()) } else { Err(SourceError::LostLease) }
}
