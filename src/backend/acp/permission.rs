//! Permission in the agent's words and in ours. Pure.

use super::translate::kind_word;
use crate::domain::permission::{Access, PermissionDecision, PermissionKind, PermissionRequest};
use crate::domain::turn::ToolCall;
use agent_client_protocol::v1::schema::{
    PermissionOption, PermissionOptionKind, RequestPermissionOutcome, SelectedPermissionOutcome, ToolKind,
};
use serde_json::{Value, json};

/// What a person is asked.
pub(super) fn request(
    id: String,
    call: &ToolCall,
    kind: Option<ToolKind>,
    options: &[PermissionOption],
) -> PermissionRequest {
    // Whether a yes can be one for this once, standing rules have to know.
    let options: Vec<Value> = options
        .iter()
        .map(|option| json!({"id": option.option_id.0, "name": option.name, "kind": option.kind}))
        .collect();
    let title = match &call.title {
        Some(title) => format!("{}: {title}", call.tool),
        None => call.tool.clone(),
    };
    // What the rules for a kind of tool hold for: a tool's own name does not say that.
    let word = kind.as_ref().map(|kind| kind_word(*kind));
    let (kind, access) = match kind {
        // The agent wants to leave its plan and begin.
        Some(ToolKind::SwitchMode) => (PermissionKind::Plan, Access::Unknown),
        Some(ToolKind::Read | ToolKind::Search | ToolKind::Think) => (PermissionKind::Tool, Access::Read),
        Some(ToolKind::Edit | ToolKind::Delete | ToolKind::Move | ToolKind::Execute) => {
            (PermissionKind::Tool, Access::Write)
        }
        _ => (PermissionKind::Tool, Access::Unknown),
    };
    PermissionRequest {
        agent_request_id: id,
        kind,
        access,
        title,
        payload: json!({
            "call_id": call.call_id, "tool": call.tool, "kind": word, "input": call.input, "locations": call.locations,
            "diffs": call.diffs.iter().map(|diff| json!({"path": diff.path, "old": diff.old, "new": diff.new})).collect::<Vec<_>>(),
            "options": options,
        }),
    }
}

/// The agent's option for a decision; `Cancelled` where it has none of that kind, which no agent takes for a yes.
pub(super) fn outcome(
    decision: &PermissionDecision,
    options: &[PermissionOption],
) -> RequestPermissionOutcome {
    use PermissionOptionKind::{AllowAlways, AllowOnce, RejectAlways, RejectOnce};
    let wanted = match decision {
        PermissionDecision::AllowOnce => [AllowOnce, AllowAlways],
        PermissionDecision::AllowAlways => [AllowAlways, AllowOnce],
        // An answer to a question that was none: not a yes.
        PermissionDecision::Deny { .. } | PermissionDecision::Answers(_) => [RejectOnce, RejectAlways],
    };
    let found = wanted.iter().find_map(|kind| options.iter().find(|option| option.kind == *kind));
    found.map_or(RequestPermissionOutcome::Cancelled, |option| {
        RequestPermissionOutcome::Selected(SelectedPermissionOutcome::new(option.option_id.clone()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_says_of_what_kind_its_options_are() {
        let once = PermissionOption::new("y".to_owned(), "y", PermissionOptionKind::AllowOnce);
        let fields = agent_client_protocol::v1::schema::ToolCallUpdateFields::new();
        let (call, _) = super::super::translate::Translation::default().announce("c", fields);
        let asked = request("1".into(), &call, Some(ToolKind::Execute), &[once]);
        assert_eq!(asked.payload["options"][0]["kind"], "allow_once");
    }

    #[test]
    fn a_decision_finds_the_agents_own_option_and_never_the_opposite() {
        let option = |id: &str, kind| PermissionOption::new(id.to_owned(), id, kind);
        let options =
            [option("y", PermissionOptionKind::AllowAlways), option("n", PermissionOptionKind::RejectOnce)];
        let picked =
            |decision: PermissionDecision, options: &[PermissionOption]| match outcome(&decision, options) {
                RequestPermissionOutcome::Selected(selected) => Some(selected.option_id.0.to_string()),
                _ => None,
            };
        assert_eq!(picked(PermissionDecision::AllowOnce, &options).as_deref(), Some("y"));
        assert_eq!(picked(PermissionDecision::Deny { message: None }, &options).as_deref(), Some("n"));
        assert_eq!(picked(PermissionDecision::Answers(Vec::new()), &options).as_deref(), Some("n"));
        assert_eq!(picked(PermissionDecision::Deny { message: None }, &options[..1]), None);
        assert_eq!(picked(PermissionDecision::AllowOnce, &options[1..]), None);
    }
}
