//! What an agent offers, as it told: capabilities of the process; models, modes, options and commands of a conversation. Pure.

use agent_client_protocol::v1::schema::{
    SessionConfigKind, SessionConfigOption, SessionConfigOptionCategory, SessionConfigSelectOptions,
    SessionUpdate,
};
use serde::Deserialize;
use serde_json::Value;

/// What the agent can do, from its answer to `initialize`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Capabilities {
    pub(super) load: bool,
    pub(super) resume: bool,
    pub(super) close: bool,
    pub(super) mcp_http: bool,
    pub(super) mcp_sse: bool,
    /// Name and version, as it calls itself.
    pub(super) name: String,
    pub(super) version: String,
}

/// A thing that can be chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Choice {
    pub(super) id: String,
    pub(super) name: String,
}

/// One of several, and which it is now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Selection {
    pub(super) current: String,
    pub(super) choices: Vec<Choice>,
}

/// What an option is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    Model,
    Mode,
    Thinking,
    Other,
}

/// A command that can be asked for with a slash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Command {
    pub(super) name: String,
    pub(super) description: String,
}

/// What is known of a conversation.
#[derive(Clone, Debug, Default)]
pub(super) struct Told {
    /// Options, in the agent's order; the newest way, and the only one that the protocol has for models.
    pub(super) options: Vec<SessionConfigOption>,
    /// Modes, the older way.
    pub(super) modes: Option<Selection>,
    /// Models, a way from outside the protocol.
    pub(super) models: Option<Selection>,
    pub(super) commands: Vec<Command>,
    /// US dollars since the conversation began.
    pub(super) cost_usd: f64,
    pub(super) title: Option<String>,
}

impl Capabilities {
    /// From the answer to `initialize`.
    pub(super) fn of(answer: &Value) -> Self {
        let able = |path: &str| match answer.pointer(&format!("/agentCapabilities/{path}")) {
            None | Some(Value::Null | Value::Bool(false)) => false,
            Some(_) => true,
        };
        let word = |path: &str| answer.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned();
        Self {
            load: able("loadSession"),
            resume: able("sessionCapabilities/resume"),
            close: able("sessionCapabilities/close"),
            mcp_http: able("mcpCapabilities/http"),
            mcp_sse: able("mcpCapabilities/sse"),
            name: word("/agentInfo/name"),
            version: word("/agentInfo/version"),
        }
    }
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Modes {
    current_mode_id: String,
    available_modes: Vec<Named>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Models {
    current_model_id: String,
    available_models: Vec<Named>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Named {
    #[serde(alias = "modelId")]
    id: String,
    name: String,
}

impl Told {
    /// From the answer to `session/new`, `session/load` or `session/resume`. What cannot be read is not offered.
    pub(super) fn of(answer: &Value) -> Self {
        let modes =
            answer.get("modes").cloned().and_then(|modes| serde_json::from_value::<Modes>(modes).ok());
        let models =
            answer.get("models").cloned().and_then(|models| serde_json::from_value::<Models>(models).ok());
        Self {
            options: options_of(answer.get("configOptions")),
            modes: modes.map(|modes| selection(modes.current_mode_id, modes.available_modes)),
            models: models.map(|models| selection(models.current_model_id, models.available_models)),
            ..Self::default()
        }
    }

    /// One update more.
    pub(super) fn take(&mut self, update: &SessionUpdate) {
        match update {
            SessionUpdate::AvailableCommandsUpdate(update) => {
                let command = |command: &agent_client_protocol::v1::schema::AvailableCommand| Command {
                    name: command.name.clone(),
                    description: command.description.clone(),
                };
                self.commands = update.available_commands.iter().map(command).collect();
            }
            SessionUpdate::CurrentModeUpdate(update) => {
                if let Some(modes) = &mut self.modes {
                    modes.current = update.current_mode_id.0.to_string();
                }
            }
            SessionUpdate::ConfigOptionUpdate(update) => self.options = update.config_options.clone(),
            SessionUpdate::SessionInfoUpdate(info) => {
                if let Some(title) = info.title.value() {
                    self.title = Some(title.clone());
                }
            }
            SessionUpdate::UsageUpdate(update) => {
                if let Some(cost) = &update.cost
                    && cost.currency == "USD"
                {
                    self.cost_usd = cost.amount;
                }
            }
            _ => {}
        }
    }

    /// What was told before we knew whose it is.
    pub(super) fn merge(&mut self, early: Self) {
        if !early.commands.is_empty() {
            self.commands = early.commands;
        }
        if !early.options.is_empty() {
            self.options = early.options;
        }
    }

    /// The answer to a `set_config_option`: all options anew.
    pub(super) fn options_answered(&mut self, answer: &Value) {
        let options = options_of(answer.get("configOptions"));
        if !options.is_empty() {
            self.options = options;
        }
    }

    /// The first option for a purpose.
    pub(super) fn option_for(&self, purpose: Purpose) -> Option<&SessionConfigOption> {
        self.options.iter().find(|option| purpose_of(option) == purpose)
    }

    /// The option of that id.
    pub(super) fn option(&self, id: &str) -> Option<&SessionConfigOption> {
        self.options.iter().find(|option| &*option.id.0 == id)
    }
}

/// What an option is for, by its category, else by the ids that agents use.
pub(super) fn purpose_of(option: &SessionConfigOption) -> Purpose {
    match (&option.category, &*option.id.0) {
        (Some(SessionConfigOptionCategory::Model), _) | (None, "model") => Purpose::Model,
        (Some(SessionConfigOptionCategory::Mode), _) | (None, "mode") => Purpose::Mode,
        (Some(SessionConfigOptionCategory::ThoughtLevel), _)
        | (None, "effort" | "reasoning_effort" | "thinking" | "thought_level") => Purpose::Thinking,
        _ => Purpose::Other,
    }
}

/// The value that an option has now, and the ones it may have. A switch may be `true` or `false`.
pub(super) fn selection_of(option: &SessionConfigOption) -> Selection {
    match &option.kind {
        SessionConfigKind::Select(select) => {
            let flat = match &select.options {
                SessionConfigSelectOptions::Ungrouped(options) => options.iter().collect(),
                SessionConfigSelectOptions::Grouped(groups) => {
                    groups.iter().flat_map(|group| &group.options).collect()
                }
                _ => Vec::new(),
            };
            let choices = flat
                .into_iter()
                .map(|choice| Choice { id: choice.value.0.to_string(), name: choice.name.clone() });
            Selection { current: select.current_value.0.to_string(), choices: choices.collect() }
        }
        SessionConfigKind::Boolean(switch) => {
            let choice = |word: &str| Choice { id: word.to_owned(), name: word.to_owned() };
            Selection {
                current: switch.current_value.to_string(),
                choices: vec![choice("true"), choice("false")],
            }
        }
        _ => Selection::default(),
    }
}

/// True for an option that is on or off.
pub(super) fn is_switch(option: &SessionConfigOption) -> bool {
    matches!(option.kind, SessionConfigKind::Boolean(_))
}

fn options_of(list: Option<&Value>) -> Vec<SessionConfigOption> {
    let items = list.and_then(Value::as_array).into_iter().flatten();
    // One that we cannot read does not hide the others.
    items.filter_map(|item| serde_json::from_value(item.clone()).ok()).collect()
}

fn selection(current: String, from: Vec<Named>) -> Selection {
    let choices = from.into_iter().map(|named| Choice { id: named.id, name: named.name });
    Selection { current, choices: choices.collect() }
}

impl Selection {
    /// The id of a choice that is called like this: by id, else by name without regard to case.
    pub(super) fn find(&self, wish: &str) -> Option<&str> {
        let by_id = self.choices.iter().find(|choice| choice.id == wish);
        let found =
            by_id.or_else(|| self.choices.iter().find(|choice| choice.name.eq_ignore_ascii_case(wish)))?;
        Some(&found.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_ways_of_four_agents_are_understood() {
        let gemini = Told::of(&json!({"sessionId": "s",
            "modes": {"currentModeId": "default", "availableModes": [{"id": "yolo", "name": "YOLO", "description": "x"}]},
            "models": {"currentModelId": "auto", "availableModels": [{"modelId": "m1", "name": "M 1"}]}}));
        assert_eq!(gemini.modes.unwrap().find("yolo"), Some("yolo"));
        let models = gemini.models.unwrap();
        assert_eq!((models.current.as_str(), models.find("m 1")), ("auto", Some("m1")));
        let codex = Told::of(&json!({"configOptions": [
            {"id": "model", "name": "Model", "category": "model", "type": "select", "currentValue": "a",
             "options": [{"value": "a", "name": "A"}]},
            {"id": "reasoning_effort", "name": "R", "category": "thought_level", "type": "select",
             "currentValue": "low", "options": [{"group": "g", "name": "G", "options": [{"value": "low", "name": "Low"}]}]},
            {"id": "broken"},
            {"id": "fast", "name": "Fast", "type": "boolean", "currentValue": true}]}));
        assert_eq!(codex.options.len(), 3);
        assert_eq!(selection_of(codex.option_for(Purpose::Thinking).unwrap()).find("LOW"), Some("low"));
        let fast = codex.option("fast").unwrap();
        assert!(is_switch(fast) && purpose_of(fast) == Purpose::Other);
        assert_eq!(selection_of(fast).current, "true");
    }

    #[test]
    fn capabilities_are_there_when_they_are_told_and_not_null() {
        let able = Capabilities::of(&json!({"agentCapabilities": {"loadSession": true,
            "sessionCapabilities": {"resume": {}, "close": null}}, "agentInfo": {"name": "x", "version": "1"}}));
        assert!(able.load && able.resume && !able.close);
        assert_eq!((able.name.as_str(), able.version.as_str()), ("x", "1"));
        assert_eq!(Capabilities::of(&json!({})), Capabilities::default());
    }
}
