//! What a stored conversation is good for under the configuration that holds now. Pure; asks no agent.

use crate::dispatch::task_source::{StoredConversation, TurnFacts};
use crate::domain::agent::AgentProfile;

/// Which conversation is gone on with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Resuming {
    /// The agent's id of it.
    pub(super) id: Option<String>,
    /// There was one, and it cannot be gone on with: what was said is told again.
    pub(super) lost: bool,
    /// For whoever reads the turn.
    pub(super) notice: Option<String>,
}

/// An id means something to the kind of backend that gave it alone. A changed configuration is no reason to begin anew: model
/// and mode are chosen for each turn, and where the home has changed, the agent itself says that it knows no such conversation.
pub(super) fn resuming(facts: &TurnFacts, profile: &AgentProfile) -> Resuming {
    let Some(StoredConversation { id, backend, config_hash }) = &facts.resume else {
        return Resuming { lost: facts.conversation_lost, ..Resuming::default() };
    };
    let (now, agent) = (profile.backend, &profile.name);
    if *backend != Some(now) {
        let before = backend.map_or("another backend", |kind| kind.as_str());
        let notice = format!(
            "agent {agent} was reached by {before} so far and is by {} now: its conversation is begun anew",
            now.as_str()
        );
        return Resuming { id: None, lost: true, notice: Some(notice) };
    }
    let changed = config_hash.as_ref().is_some_and(|hash| *hash != profile.config_hash);
    let notice =
        changed.then(|| format!("the configuration of agent {agent} has changed since the last turn"));
    Resuming { id: Some(id.clone()), lost: false, notice }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dispatch::task_source::ProjectPlace;
    use crate::domain::agent::{AgentName, BackendKind, PermissionDefault, PermissionPolicy, PermissionRule};

    fn profile() -> AgentProfile {
        AgentProfile {
            name: AgentName::new("a").expect("a good name"),
            backend: BackendKind::AcpWarm,
            default_model: None,
            default_mode: None,
            default_thinking: None,
            permission: PermissionPolicy {
                rule: PermissionRule::Allow,
                deadline_secs: 1,
                fallback: PermissionDefault::Deny,
            },
            stall_secs: 1,
            turn_secs: 1,
            config_hash: "now".into(),
            redactor: crate::domain::redaction::Redactor::default(),
        }
    }

    fn facts(resume: Option<(BackendKind, &str)>, conversation_lost: bool) -> TurnFacts {
        TurnFacts {
            title: String::new(),
            open: true,
            permission: None,
            project: ProjectPlace::Path("/p".into()),
            resume: resume.map(|(backend, hash)| StoredConversation {
                id: "c1".into(),
                backend: Some(backend),
                config_hash: Some(hash.into()),
            }),
            conversation_lost,
            has_worktree: true,
            checkpoint_before: None,
            last_checkpoint: None,
            earlier_fences: Vec::new(),
        }
    }

    #[test]
    fn only_ids_of_this_backend_are_resumed_and_a_changed_configuration_is_told() {
        let decided = |facts: TurnFacts| {
            let Resuming { id, lost, notice } = resuming(&facts, &profile());
            (id.is_some(), lost, notice.unwrap_or_default())
        };
        assert_eq!(decided(facts(Some((BackendKind::AcpWarm, "now")), false)), (true, false, String::new()));
        let (resumes, lost, notice) = decided(facts(Some((BackendKind::AcpWarm, "before")), false));
        assert!(resumes && !lost && notice.contains("has changed"), "{notice}");
        let (resumes, lost, notice) = decided(facts(Some((BackendKind::OpencodeServer, "now")), false));
        assert!(!resumes && lost && notice.contains("by opencode_server so far"), "{notice}");
        assert_eq!(decided(facts(None, false)), (false, false, String::new()));
        assert_eq!(decided(facts(None, true)), (false, true, String::new()));
    }
}
