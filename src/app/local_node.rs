//! What the API sees of this process: pool, worktrees, listener.

use super::pool_view;
use crate::backend::{AgentSessionHandle, Interrupted, Occasion, SessionOrigin};
use crate::domain::agent::{AgentName, BackendKind};
use crate::domain::catalogue::Catalogue;
use crate::domain::ids::{NodeId, SessionId};
use crate::domain::session::{SessionKey, SessionStatus};
use crate::http::{CloseOutcome, LocalError, LocalNode};
use crate::pool::AgentPool;
use crate::pulse::Pulse;
use crate::shutdown::Shutdown;
use crate::store::Store;
use crate::store::listener::{Listener, ListenerState};
use crate::store::sessions::{EndedConversation, SessionDetail};
use crate::wire::pool::{BackendView, PoolView};
use crate::worktree::{ProjectSource, RemoveMode, Removed, Risk, WorktreeError, Worktrees};
use async_trait::async_trait;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

pub(super) struct NodeHandle {
    pub(super) id: NodeId,
    pub(super) pool: AgentPool,
    pub(super) worktrees: Worktrees,
    pub(super) store: Store,
    pub(super) listener: Listener,
    pub(super) shutdown: Shutdown,
    pub(super) pulse: Pulse,
    pub(super) panics: Arc<AtomicU64>,
}

impl NodeHandle {
    /// The conversation as its row has it, if an agent of this node has it.
    fn stored_handle(
        &self,
        key: &SessionKey,
        session: &SessionDetail,
        conversation: &EndedConversation,
    ) -> Option<AgentSessionHandle> {
        if conversation.node != Some(self.id.0) {
            return None;
        }
        Some(AgentSessionHandle {
            key: key.clone(),
            backend: BackendKind::parse(&conversation.backend)?,
            agent_session_id: conversation.agent_session_id.clone()?,
            server_port: None,
            worktree: PathBuf::from(session.row.worktree.as_ref()?),
            origin: SessionOrigin::Resumed,
            interrupted: Interrupted::None,
        })
    }
}

#[async_trait]
impl LocalNode for NodeHandle {
    fn id(&self) -> NodeId {
        self.id
    }

    async fn pool(&self) -> PoolView {
        self.pool.held().await;
        pool_view::pool(self.pool.summary())
    }

    fn backends(&self) -> Vec<BackendView> {
        pool_view::backends(&self.pool.summary())
    }

    fn listener(&self) -> String {
        match &*self.listener.state.borrow() {
            ListenerState::Connecting => "connecting".to_owned(),
            ListenerState::Listening => "listening".to_owned(),
            ListenerState::Down(why) => why.clone(),
        }
    }

    fn event_loop_age(&self) -> Duration {
        self.pulse.age()
    }

    fn panics(&self) -> u64 {
        self.panics.load(Ordering::Relaxed)
    }

    fn is_draining(&self) -> bool {
        self.shutdown.is_asked()
    }

    async fn catalogue(&self, agent: &AgentName) -> Result<Catalogue, String> {
        match self.pool.catalogue(agent).await {
            None => Err("no node here runs it".to_owned()),
            Some(catalogue) => catalogue.map_err(|error| error.to_string()),
        }
    }

    async fn usable_repository(&self, path: &str) -> Result<PathBuf, String> {
        let source = ProjectSource::Path(PathBuf::from(path));
        self.worktrees.check_project(&source).await.map_err(|error| error.to_string())?;
        std::fs::canonicalize(path).map_err(|error| format!("{path}: {error}"))
    }

    async fn prepare(&self, session: &SessionDetail, agents: &[AgentName]) -> Result<(), LocalError> {
        let id = SessionId(session.row.id);
        let worktree = self.worktrees.ensure(&source_of(session), id).await.map_err(failed)?;
        let path = worktree.path.to_string_lossy();
        let remembered =
            self.store.worktree_ahead(id.0, self.id.0, &path, &worktree.base_commit, &worktree.branch).await;
        if remembered.map_err(|error| LocalError::Failed(error.to_string()))? {
            for agent in agents {
                self.pool.prewarm(agent, &worktree.path, Occasion::SessionMade);
            }
            return Ok(());
        }
        // A turn that was faster has the worktree now; of a session that was closed meanwhile nobody else would remove it.
        let status = self.store.session_status(id.0).await;
        if status.is_ok_and(|status| status.is_none_or(|(_, status)| status != SessionStatus::Open.as_str()))
        {
            self.worktrees.remove(&worktree, RemoveMode::IfClean).await.map_err(failed)?;
        }
        Ok(())
    }

    async fn risk(&self, session: &SessionDetail) -> Result<Vec<String>, LocalError> {
        let worktree = self.worktrees.ensure(&source_of(session), SessionId(session.row.id)).await;
        let risk = self.worktrees.risk(&worktree.map_err(failed)?).await.map_err(failed)?;
        Ok(words(&risk))
    }

    async fn end_session(
        &self,
        session: &SessionDetail,
        ended: &[EndedConversation],
        force: bool,
    ) -> Result<CloseOutcome, LocalError> {
        let id = SessionId(session.row.id);
        for conversation in ended {
            let Ok(agent) = AgentName::new(conversation.agent.clone()) else { continue };
            let key = SessionKey { session: id, agent };
            match self.stored_handle(&key, session, conversation) {
                Some(stored) => self.pool.close_stored(stored).await,
                None => self.pool.close(&key).await,
            }
        }
        if session.row.worktree.is_none() {
            return Ok(CloseOutcome::NoWorktree);
        }
        // Whoever takes files back in it has it to their end.
        let _hold = self.worktrees.hold(id).await;
        let mode = if force { RemoveMode::Force } else { RemoveMode::IfClean };
        let worktree = self.worktrees.ensure(&source_of(session), id).await.map_err(failed)?;
        match self.worktrees.remove(&worktree, mode).await.map_err(failed)? {
            Removed::NotThere => Ok(CloseOutcome::Removed),
            Removed::Kept { risk } => Ok(CloseOutcome::Kept(words(&risk))),
            Removed::Gone { checkpoint } => {
                let saved = self.store.save_final_checkpoint(id.0, &checkpoint.commit, self.id.0).await;
                if let Err(error) = saved {
                    tracing::warn!(session = %id, commit = checkpoint.commit, %error, "the last checkpoint has no row");
                }
                Ok(CloseOutcome::Removed)
            }
        }
    }
}

pub(super) fn source_of(session: &SessionDetail) -> ProjectSource {
    match (&session.project_path, &session.project_url) {
        (Some(path), _) => ProjectSource::Path(PathBuf::from(path)),
        (None, url) => ProjectSource::Url(url.clone().unwrap_or_default()),
    }
}

fn words(risk: &Risk) -> Vec<String> {
    let mut words: Vec<String> =
        risk.dirty.iter().map(|path| format!("not applied or committed: {path}")).collect();
    if risk.unmerged_commits > 0 {
        words.push(format!("{} commits that the project does not have", risk.unmerged_commits));
    }
    words
}

pub(super) fn failed(error: WorktreeError) -> LocalError {
    LocalError::Failed(error.to_string())
}
