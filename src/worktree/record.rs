//! What we know of a session's worktree on this disk. Says where a killed operation stood; holds no content.

use super::error::WorktreeError;
use super::files;
use crate::domain::ids::SessionId;
use std::path::Path;

/// One session's record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    /// Key of its project's stores.
    pub project: String,
    /// Where it began.
    pub base: String,
    /// Its first branch.
    pub branch: String,
    /// Where it stands.
    pub phase: Phase,
}

/// Where a worktree stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// It is being made; no agent has been in it.
    Creating,
    /// Agents may work in it.
    Ready,
    /// It is being brought to another state.
    Restoring {
        /// That one's commit.
        to: String,
        /// The commit of the state before, which was saved.
        from: String,
    },
    /// It was removed; its checkpoints are there.
    Removed,
}

impl Record {
    /// The record in a session's folder.
    pub(super) fn load(private: &Path) -> Option<Self> {
        Self::parse(&files::read_line(&private.join("record"))?)
    }

    /// The record of a worktree that is there.
    ///
    /// # Errors
    /// [`WorktreeError::Unknown`] when it never was, or was removed.
    pub(super) fn ready(private: &Path, session: SessionId) -> Result<Self, WorktreeError> {
        let record = Self::load(private).filter(|record| record.phase != Phase::Removed);
        record.ok_or_else(|| WorktreeError::Unknown(session.to_string()))
    }

    /// Writes it, durably.
    pub(super) fn save(&self, private: &Path) -> Result<(), WorktreeError> {
        files::write_durably(&private.join("record"), self.text().as_bytes())
    }

    /// The same in another phase.
    pub(super) fn in_phase(&self, phase: Phase) -> Self {
        Self { phase, ..self.clone() }
    }

    fn text(&self) -> String {
        let phase = match &self.phase {
            Phase::Creating => "creating".to_owned(),
            Phase::Ready => "ready".to_owned(),
            Phase::Restoring { to, from } => format!("restoring {to} from {from}"),
            Phase::Removed => "removed".to_owned(),
        };
        format!("project {}\nbase {}\nbranch {}\nphase {phase}\n", self.project, self.base, self.branch)
    }

    fn parse(text: &str) -> Option<Self> {
        let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        let phase = match field("phase")?.split_once(' ') {
            None => match field("phase")? {
                "creating" => Phase::Creating,
                "ready" => Phase::Ready,
                "removed" => Phase::Removed,
                _ => return None,
            },
            Some(("restoring", states)) => {
                // An earlier version did not write from where: then nothing is known to go.
                let (to, from) = states.split_once(" from ").unwrap_or((states, states));
                Phase::Restoring { to: to.to_owned(), from: from.to_owned() }
            }
            Some(_) => return None,
        };
        Some(Self {
            project: field("project")?.to_owned(),
            base: field("base")?.to_owned(),
            branch: field("branch")?.to_owned(),
            phase,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_reads_as_it_was_written() {
        let restoring = Phase::Restoring { to: "ab12".into(), from: "cd34".into() };
        for phase in [Phase::Creating, Phase::Ready, restoring, Phase::Removed] {
            let record =
                Record { project: "k".into(), base: "b".into(), branch: "agentpool/x".into(), phase };
            assert_eq!(Record::parse(&record.text()), Some(record));
        }
        assert_eq!(Record::parse("project k\nbase b\nbranch c\nphase half"), None);
        let earlier =
            Record::parse("project k\nbase b\nbranch c\nphase restoring ab12").map(|record| record.phase);
        assert_eq!(earlier, Some(Phase::Restoring { to: "ab12".into(), from: "ab12".into() }));
    }
}
