//! Everything before the prompt: worktree, checkpoint, slot, conversation. A retried turn starts from the checkpoint taken
//! before it, unless the agent's own store says that the interrupted turn in fact completed.

use super::resuming::{Resuming, resuming};
use super::{Turn, TurnFailure};
use crate::backend::{AgentSessionHandle, EnsureSession, Interrupted, Occasion, SessionOrigin};
use crate::dispatch::task_source::{
    FoundChanges, InterruptedTree, ProjectPlace, TurnBegin, TurnFacts, WorktreeFacts,
};
use crate::domain::agent::{AgentProfile, PermissionPolicy};
use crate::domain::failure::FailureReason;
use crate::domain::session::SessionKey;
use crate::domain::text::RETOLD;
use crate::domain::turn::TurnRef;
use crate::failpoint::failpoint;
use crate::pool::SlotGuard;
use crate::worktree::{Hold, INTERRUPTED, ProjectSource, Worktree};

/// How much of an earlier conversation is told again, in bytes: some 8,000 tokens.
const RETOLD_BYTES_MAX: usize = 32 << 10;

/// A turn that can be prompted.
pub(super) struct Ready {
    /// Nobody else is at work in the worktree until the turn is over.
    pub(super) _hold: Hold,
    pub(super) worktree: Worktree,
    pub(super) checkpoint: String,
    pub(super) slot: SlotGuard,
    pub(super) handle: AgentSessionHandle,
    /// The prompt, with the conversation told again where it was lost.
    pub(super) text: String,
    pub(super) notices: Vec<String>,
    /// The agent's, or the session's own.
    pub(super) permission: PermissionPolicy,
}

/// From where a turn starts.
struct Start {
    checkpoint: String,
    found: FoundChanges,
    notices: Vec<String>,
}

impl Start {
    fn at(checkpoint: String) -> Self {
        Self { checkpoint, found: FoundChanges::default(), notices: Vec::new() }
    }
}

impl Turn<'_> {
    pub(super) async fn prepare(&self, profile: &AgentProfile) -> Result<Ready, TurnFailure> {
        // Held first: a person who took files back meanwhile has changed the facts.
        let hold = self.engine.worktrees.hold(self.task.lease.session).await;
        let facts = self.engine.source.facts(&self.task.lease, &self.task.agent).await?;
        if !facts.open {
            return Err(TurnFailure::Cancelled);
        }
        let worktree = self.worktree(&facts).await?;
        let resuming = resuming(&facts, profile);
        let mut notices = worktree.notices.clone();
        notices.extend(resuming.notice.clone());
        let (slot, handle, start) = match &facts.checkpoint_before {
            // The agent works in the tree only once it is prompted, so both may be made ready at the same time.
            None => {
                let ((slot, handle), start) = tokio::try_join!(
                    self.conversation(&facts, &resuming, &worktree),
                    self.first_checkpoint(&facts, &worktree)
                )?;
                (slot, handle, start)
            }
            Some(before) => {
                let (slot, handle) = self.conversation(&facts, &resuming, &worktree).await?;
                let mut start = Start::at(before.clone());
                if !matches!(handle.interrupted, Interrupted::Completed { .. }) {
                    start.notices = self.go_back_to(before, &worktree).await?;
                }
                (slot, handle, start)
            }
        };
        notices.extend(start.notices);
        let (text, told) = self.text(&resuming, &handle).await?;
        notices.extend(told);
        self.begin(profile, &handle, &start.checkpoint, start.found).await?;
        let permission = profile.permission.of_session(facts.permission);
        let checkpoint = start.checkpoint;
        Ok(Ready { _hold: hold, worktree, checkpoint, slot, handle, text, notices, permission })
    }

    async fn worktree(&self, facts: &TurnFacts) -> Result<Worktree, TurnFailure> {
        let project = match &facts.project {
            ProjectPlace::Path(path) => ProjectSource::Path(path.clone()),
            ProjectPlace::Url(url) => ProjectSource::Url(url.clone()),
        };
        let worktree = self.engine.worktrees.ensure(&project, self.task.lease.session).await?;
        if !facts.has_worktree {
            self.engine.pool.prewarm(&self.task.agent, &worktree.path, Occasion::TurnBegins);
            let place = WorktreeFacts {
                path: worktree.path.clone(),
                base_commit: worktree.base_commit.clone(),
                branch: worktree.branch.clone(),
            };
            self.engine.source.save_worktree(&self.task.lease, &place).await?;
            failpoint("worktree_saved").await;
        }
        Ok(worktree)
    }

    /// The checkpoint before the task's first turn. What changed since the last one was done by the turn that was cut off after
    /// that one, or else by a person.
    async fn first_checkpoint(&self, facts: &TurnFacts, worktree: &Worktree) -> Result<Start, TurnFailure> {
        let checkpoint = self.engine.worktrees.checkpoint(worktree, "before").await?;
        let mut start = Start::at(checkpoint.commit);
        start.notices = checkpoint.notices;
        if let Some(last) = facts.last_checkpoint.as_ref().filter(|last| last.commit != start.checkpoint) {
            start.found.changes =
                self.engine.worktrees.changes(worktree, &last.commit, &start.checkpoint).await?;
            start.found.by.clone_from(&last.unfinished);
        }
        Ok(start)
    }

    /// Keeps the tree that the interrupted turn left as a checkpoint of its own, then goes back.
    async fn go_back_to(&self, before: &str, worktree: &Worktree) -> Result<Vec<String>, TurnFailure> {
        let interrupted = self.engine.worktrees.checkpoint(worktree, INTERRUPTED).await?;
        let changes = self.engine.worktrees.changes(worktree, before, &interrupted.commit).await?;
        let agent = self.task.agent.clone();
        let tree = InterruptedTree { commit: interrupted.commit, agent, changes };
        self.engine.source.save_interrupted(&self.task.lease, &tree).await?;
        failpoint("interrupted_saved").await;
        self.engine.worktrees.restore(worktree, before).await?;
        Ok(interrupted.notices)
    }

    async fn conversation(
        &self,
        facts: &TurnFacts,
        resuming: &Resuming,
        worktree: &Worktree,
    ) -> Result<(SlotGuard, AgentSessionHandle), TurnFailure> {
        let key = SessionKey { session: self.task.lease.session, agent: self.task.agent.clone() };
        let Some(mut slot) = self.engine.pool.check_out(&key).await else {
            let message = format!("agent {} is not configured on this node", self.task.agent);
            return Err(TurnFailure::Because { reason: FailureReason::SpawnFailed, message });
        };
        let interrupted =
            facts.earlier_fences.iter().map(|fence| TurnRef { task: self.task.lease.task, fence: *fence });
        let opts = EnsureSession {
            worktree: worktree.path.clone(),
            title: if facts.title.is_empty() {
                format!("agentpool {}", key.session)
            } else {
                facts.title.clone()
            },
            resume: resuming.id.clone(),
            interrupted: interrupted.collect(),
        };
        let handle = slot.ensure(opts).await?;
        Ok((slot, handle))
    }

    async fn begin(
        &self,
        profile: &AgentProfile,
        handle: &AgentSessionHandle,
        checkpoint: &str,
        found: FoundChanges,
    ) -> Result<(), TurnFailure> {
        let begin = TurnBegin {
            lease: self.task.lease,
            checkpoint: checkpoint.to_owned(),
            found,
            agent: self.task.agent.clone(),
            backend: handle.backend,
            agent_session_id: handle.agent_session_id.clone(),
            server_port: handle.server_port,
            config_hash: profile.config_hash.clone(),
        };
        self.engine.source.begin_turn(&begin).await?;
        failpoint("begun").await;
        Ok(())
    }

    /// What the agent is told: the prompt, after the conversation so far when that was lost.
    async fn text(
        &self,
        resuming: &Resuming,
        handle: &AgentSessionHandle,
    ) -> Result<(String, Vec<String>), TurnFailure> {
        let lost = match handle.origin {
            SessionOrigin::NewInsteadOfResumed => true,
            SessionOrigin::New => resuming.lost,
            SessionOrigin::Reused | SessionOrigin::Resumed => false,
        };
        let mut notices = Vec::new();
        if handle.interrupted == Interrupted::StillThere {
            notices.push("the interrupted try of this task is still in the agent's conversation".to_owned());
        }
        if !lost {
            return Ok((self.task.prompt.clone(), notices));
        }
        let key = SessionKey { session: self.task.lease.session, agent: self.task.agent.clone() };
        let turns = self.engine.source.transcript(&key, self.task.lease.task).await?;
        let Some(told) = retell(&turns) else { return Ok((self.task.prompt.clone(), notices)) };
        notices.push(format!(
            "the agent could not go on with its conversation; {} earlier turns were told again",
            turns.len()
        ));
        Ok((format!("{told}\n\n{}", self.task.prompt), notices))
    }
}

/// The newest turns that fit, oldest first.
fn retell(turns: &[(String, String)]) -> Option<String> {
    let mut bytes = 0;
    let fitting: Vec<String> = turns
        .iter()
        .rev()
        .map(|(prompt, output)| format!("User: {prompt}\nYou: {output}"))
        .take_while(|turn| {
            bytes += turn.len();
            bytes <= RETOLD_BYTES_MAX
        })
        .collect();
    if fitting.is_empty() {
        return None;
    }
    let told: Vec<&str> = fitting.iter().rev().map(String::as_str).collect();
    Some(format!(
        "<{RETOLD}>\nThis conversation was interrupted. What was said before:\n\n{}\n</{RETOLD}>",
        told.join("\n\n")
    ))
}

#[cfg(test)]
mod tests {
    use super::retell;

    #[test]
    fn the_newest_turns_that_fit_are_told_oldest_first() {
        let turn = |n: usize| (format!("q{n}"), "x".repeat(12 << 10));
        let told = retell(&[turn(1), turn(2), turn(3)]).expect("something fits");
        assert!(!told.contains("q1") && told.find("q2") < told.find("q3"), "two of 12 KiB fit into 32 KiB");
        assert_eq!(retell(&[]), None);
    }
}
