//! The agent's own tools: announced, asked for, run in the session's folder, told how they ended.

use crate::session::locked;
use crate::turn::{Cut, Turn};
use agent_client_protocol::v1::schema::{
    Diff, PermissionOption, PermissionOptionKind, RequestPermissionOutcome, RequestPermissionRequest,
    SessionUpdate, ToolCall, ToolCallContent, ToolCallLocation, ToolCallStatus, ToolCallUpdate,
    ToolCallUpdateFields, ToolKind,
};
use serde_json::json;
use std::path::PathBuf;

impl Turn {
    pub(crate) async fn tool_write(&mut self, rest: &str) -> Result<(), Cut> {
        let (path, content) = rest.split_once(' ').unwrap_or((rest, ""));
        let content = format!("{}\n", content.trim());
        let at = self.in_folder(path);
        let diff = Diff::new(at.clone(), content.clone()).old_text(std::fs::read_to_string(&at).ok());
        let id = self.next_call();
        let call = ToolCall::new(id.clone(), format!("write {path}"))
            .kind(ToolKind::Edit)
            .content(vec![ToolCallContent::Diff(diff.clone())])
            .locations(vec![ToolCallLocation::new(at.clone())])
            .raw_input(json!({"path": path, "content": content}));
        if !self.allowed("write", call).await? {
            self.say(&format!("not allowed to write {path}"));
            return Ok(());
        }
        self.moved_on(&id, ToolCallStatus::InProgress);
        let written =
            at.parent().map_or(Ok(()), std::fs::create_dir_all).and_then(|()| std::fs::write(&at, &content));
        match written {
            Ok(()) => {
                let fields = ToolCallUpdateFields::new()
                    .status(ToolCallStatus::Completed)
                    .content(vec![ToolCallContent::Diff(diff)])
                    .raw_output(json!({"output": format!("wrote {path}")}));
                self.tell(SessionUpdate::ToolCallUpdate(ToolCallUpdate::new(id, fields)));
                self.say(&format!("wrote {path}"));
            }
            Err(error) => {
                self.failed(&id, &error.to_string());
                self.say(&format!("could not write {path}: {error}"));
            }
        }
        Ok(())
    }

    pub(crate) async fn tool_read(&mut self, path: &str) -> Result<(), Cut> {
        let at = self.in_folder(path);
        let id = self.next_call();
        let call = ToolCall::new(id.clone(), format!("read {path}"))
            .kind(ToolKind::Read)
            .locations(vec![ToolCallLocation::new(at.clone())])
            .raw_input(json!({"path": path}));
        if !self.allowed("read", call).await? {
            self.say(&format!("not allowed to read {path}"));
            return Ok(());
        }
        self.moved_on(&id, ToolCallStatus::InProgress);
        match std::fs::read_to_string(&at) {
            Ok(text) => {
                let fields = ToolCallUpdateFields::new()
                    .status(ToolCallStatus::Completed)
                    .content(vec![text.clone().into()]);
                self.tell(SessionUpdate::ToolCallUpdate(ToolCallUpdate::new(id, fields)));
                self.say(&text);
            }
            Err(error) => {
                self.failed(&id, &error.to_string());
                self.say(&format!("could not read {path}: {error}"));
            }
        }
        Ok(())
    }

    /// Announces the call and asks, unless that was allowed for always. A refusal ends the call as failed; so does a client
    /// that answers `cancelled`, and the turn goes on, as in real agents.
    async fn allowed(&mut self, tool: &str, call: ToolCall) -> Result<bool, Cut> {
        let id = call.tool_call_id.clone();
        let fields = ToolCallUpdateFields::new()
            .title(call.title.clone())
            .kind(call.kind)
            .status(ToolCallStatus::Pending)
            .content(call.content.clone())
            .locations(call.locations.clone())
            .raw_input(call.raw_input.clone());
        self.tell(SessionUpdate::ToolCall(call));
        if locked(&self.session.conversation).always_allowed.contains(tool) {
            return Ok(true);
        }
        let options = vec![
            PermissionOption::new("once", "Allow once", PermissionOptionKind::AllowOnce),
            PermissionOption::new("always", "Always allow", PermissionOptionKind::AllowAlways),
            PermissionOption::new("no", "Reject", PermissionOptionKind::RejectOnce),
        ];
        let update = ToolCallUpdate::new(id.clone(), fields);
        let request = RequestPermissionRequest::new(self.session.id.clone(), update, options);
        let asked = self.client.send_request(request).block_task();
        let chosen = match self.unless_cancelled(asked).await {
            Ok(Ok(response)) => match response.outcome {
                RequestPermissionOutcome::Selected(selected) => selected.option_id.0.to_string(),
                _ => "cancelled".to_owned(),
            },
            Ok(Err(error)) => {
                self.failed(&id.0, &error.to_string());
                return Ok(false);
            }
            Err(cut) => {
                self.failed(&id.0, "cancelled");
                return Err(cut);
            }
        };
        match chosen.as_str() {
            "once" => Ok(true),
            "always" => {
                locked(&self.session.conversation).always_allowed.insert(tool.to_owned());
                Ok(true)
            }
            other => {
                self.failed(&id.0, if other == "no" { "rejected" } else { other });
                Ok(false)
            }
        }
    }

    fn moved_on(&self, id: &str, status: ToolCallStatus) {
        let fields = ToolCallUpdateFields::new().status(status);
        self.tell(SessionUpdate::ToolCallUpdate(ToolCallUpdate::new(id.to_owned(), fields)));
    }

    fn failed(&self, id: &str, why: &str) {
        let fields =
            ToolCallUpdateFields::new().status(ToolCallStatus::Failed).content(vec![why.to_owned().into()]);
        self.tell(SessionUpdate::ToolCallUpdate(ToolCallUpdate::new(id.to_owned(), fields)));
    }

    fn next_call(&mut self) -> String {
        self.calls += 1;
        format!("call-{}-{}", self.session.earlier().len() + 1, self.calls)
    }

    fn in_folder(&self, path: &str) -> PathBuf {
        locked(&self.session.conversation).cwd.join(path)
    }
}
