//! Modes and options of a session. Choosing the model `big` makes the option `context` appear, and leaving it makes that
//! one vanish. They belong to the process: after a load they are at their defaults again, as in real agents.

use agent_client_protocol::v1::schema::{
    SessionConfigOption, SessionConfigOptionCategory, SessionConfigSelectOption, SessionMode,
    SessionModeState,
};
use serde_json::{Value, json};
use std::collections::BTreeMap;

const MODES: [&str; 3] = ["build", "plan", "yolo"];
pub const MODELS: [&str; 2] = ["small", "big"];

#[derive(Clone, Debug)]
pub struct Settings {
    pub mode: String,
    /// Current values by option.
    values: BTreeMap<&'static str, String>,
}

/// An option with what it can be; the first is the default.
struct Choice {
    id: &'static str,
    category: SessionConfigOptionCategory,
    values: &'static [&'static str],
}

fn choices(model: &str) -> Vec<Choice> {
    use SessionConfigOptionCategory as Category;
    let mut choices = vec![
        Choice { id: "model", category: Category::Model, values: &MODELS },
        Choice { id: "thought_level", category: Category::ThoughtLevel, values: &["medium", "low", "high"] },
        Choice { id: "tone", category: Category::Other("_tone".into()), values: &["plain", "loud"] },
    ];
    if model == "big" {
        choices.push(Choice { id: "context", category: Category::ModelConfig, values: &["normal", "long"] });
    }
    choices
}

impl Default for Settings {
    fn default() -> Self {
        let mut settings = Self { mode: MODES[0].to_owned(), values: BTreeMap::new() };
        settings.settle();
        settings
    }
}

impl Settings {
    pub fn model(&self) -> &str {
        self.values.get("model").map_or(MODELS[0], String::as_str)
    }

    /// Options that are not there get their default, those that are gone go.
    fn settle(&mut self) {
        let choices = choices(self.model());
        self.values.retain(|id, _| choices.iter().any(|choice| choice.id == *id));
        for choice in choices {
            self.values.entry(choice.id).or_insert_with(|| choice.values[0].to_owned());
        }
    }

    /// Chooses a mode; false when there is no such.
    pub fn set_mode(&mut self, mode: &str) -> bool {
        let known = MODES.contains(&mode);
        if known {
            mode.clone_into(&mut self.mode);
        }
        known
    }

    /// Sets an option; false when there is no such option or value now.
    pub fn set(&mut self, option: &str, value: &str) -> bool {
        let choices = choices(self.model());
        let Some(choice) =
            choices.iter().find(|choice| choice.id == option && choice.values.contains(&value))
        else {
            return false;
        };
        self.values.insert(choice.id, value.to_owned());
        self.settle();
        true
    }

    pub fn modes(&self) -> SessionModeState {
        let modes = MODES.iter().map(|mode| SessionMode::new(*mode, mode.to_uppercase())).collect();
        SessionModeState::new(self.mode.clone(), modes)
    }

    pub fn options(&self) -> Vec<SessionConfigOption> {
        choices(self.model())
            .into_iter()
            .map(|Choice { id, category, values }| {
                let current = self.values.get(id).map_or(values[0], String::as_str).to_owned();
                let values: Vec<_> = values
                    .iter()
                    .map(|value| SessionConfigSelectOption::new(*value, value.to_uppercase()))
                    .collect();
                SessionConfigOption::select(id, id.replace('_', " "), current, values).category(category)
            })
            .collect()
    }

    /// As agents tell of models that have `session/set_model` and no options.
    pub fn legacy_models(&self) -> Value {
        let models: Vec<Value> =
            MODELS.iter().map(|model| json!({"modelId": model, "name": model.to_uppercase()})).collect();
        json!({"currentModelId": self.model(), "availableModels": models})
    }

    /// `mode=build model=small …`, for a prompt that asks.
    pub fn told(&self) -> String {
        let values: Vec<String> = self.values.iter().map(|(id, value)| format!("{id}={value}")).collect();
        format!("mode={} {}", self.mode, values.join(" "))
    }
}
