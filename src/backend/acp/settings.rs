//! Model, mode, thinking and options of a task, set on a conversation before its prompt. What the agent does not offer is
//! dropped with a notice; never fails a turn but when the process is gone.

use super::conversation::Conversation;
use super::offers::{Purpose, Selection, Told, is_switch, purpose_of, selection_of};
use super::process::{CallError, Process};
use crate::domain::task::TaskSettings;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

/// How long the agent may take to answer that something is set.
const SET_DEADLINE: Duration = Duration::from_secs(30);
/// Rounds over the further options: one may appear only after another was set.
const ROUNDS_MAX: usize = 3;
/// How many names a notice lists.
const SHOWN_MAX: usize = 6;

/// What holds where a task says nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Base {
    model: Option<String>,
    mode: Option<String>,
    options: BTreeMap<String, String>,
}

/// One thing to be set, the way that the agent knows.
#[derive(Debug, PartialEq)]
enum Step {
    Option { id: String, value: String, switch: bool },
    Mode(String),
    Model(String),
}

/// What a wish comes to.
#[derive(Debug, PartialEq)]
enum Found {
    /// It holds already.
    Holds,
    Set(Step),
    NotOffered {
        offered: String,
    },
}

impl Base {
    /// As the agent began or found the conversation.
    pub(super) fn of(told: &Told) -> Self {
        let current = |purpose| told.option_for(purpose).map(|option| selection_of(option).current);
        Self {
            model: current(Purpose::Model)
                .or_else(|| told.models.as_ref().map(|models| models.current.clone())),
            mode: current(Purpose::Mode).or_else(|| told.modes.as_ref().map(|modes| modes.current.clone())),
            options: told
                .options
                .iter()
                .filter(|option| matches!(purpose_of(option), Purpose::Thinking | Purpose::Other))
                .map(|option| (option.id.0.to_string(), selection_of(option).current))
                .collect(),
        }
    }
}

/// Sets what the task wishes, in an order that holds when options change with the model: model, mode, thinking, the rest.
/// Returns the notices.
///
/// # Errors
/// Only when the process is gone.
pub(super) async fn apply(
    process: &Process,
    conversation: &Conversation,
    base: &Base,
    wishes: &TaskSettings,
) -> Result<Vec<String>, CallError> {
    let mut notices = Vec::new();
    let setter = Setter { process, conversation };
    let wished = wishes.model.as_deref();
    setter.one("model", wished, base.model.as_deref(), find_model, &mut notices).await?;
    let wished = wishes.mode_id.as_deref();
    setter.one("mode", wished, base.mode.as_deref(), find_mode, &mut notices).await?;
    let thinking = base_thinking(&conversation.told(), base);
    let wished = wishes.thinking_option_id.as_deref();
    setter.one("thinking", wished, thinking.as_deref(), find_thinking, &mut notices).await?;
    setter.rest(base, wishes.feature_values.as_ref(), &mut notices).await?;
    Ok(notices)
}

fn base_thinking(told: &Told, base: &Base) -> Option<String> {
    let option = told.option_for(Purpose::Thinking)?;
    base.options.get(&*option.id.0).cloned()
}

struct Setter<'a> {
    process: &'a Process,
    conversation: &'a Conversation,
}

impl Setter<'_> {
    /// A wish, else what held before anybody wished: the last task's must not stick.
    async fn one(
        &self,
        what: &str,
        wish: Option<&str>,
        base: Option<&str>,
        find: fn(&Told, &str) -> Found,
        notices: &mut Vec<String>,
    ) -> Result<(), CallError> {
        let mut found = wish.map(|wish| (wish, find(&self.conversation.told(), wish)));
        if let Some((wish, Found::NotOffered { offered })) = &found {
            notices.push(format!("{what} {wish:?} is not offered and was dropped (offered: {offered})"));
            found = None;
        }
        let found = found.map(|(_, found)| found).or_else(|| {
            // What is no longer offered cannot be gone back to, and nobody asked for it.
            base.map(|base| find(&self.conversation.told(), base))
        });
        match found {
            Some(Found::Set(step)) => self.set(&step, what, notices).await,
            Some(Found::Holds | Found::NotOffered { .. }) | None => Ok(()),
        }
    }

    async fn rest(
        &self,
        base: &Base,
        values: Option<&Value>,
        notices: &mut Vec<String>,
    ) -> Result<(), CallError> {
        let mut wishes: BTreeMap<String, String> = match values {
            None | Some(Value::Null) => BTreeMap::new(),
            Some(Value::Object(fields)) => {
                fields.iter().map(|(id, value)| (id.clone(), word(value))).collect()
            }
            Some(_) => {
                notices.push("feature_values is no object and was dropped".to_owned());
                BTreeMap::new()
            }
        };
        for (id, value) in &base.options {
            let told = self.conversation.told();
            let is_rest = told.option(id).is_some_and(|option| purpose_of(option) == Purpose::Other);
            if is_rest {
                wishes.entry(id.clone()).or_insert_with(|| value.clone());
            }
        }
        for _ in 0..ROUNDS_MAX {
            let mut left = BTreeMap::new();
            let mut moved = false;
            for (id, value) in std::mem::take(&mut wishes) {
                let found = find_option(&self.conversation.told(), &id, &value);
                match found {
                    Found::Holds => {}
                    Found::Set(step) => {
                        self.set(&step, &id, notices).await?;
                        moved = true;
                    }
                    Found::NotOffered { .. } => drop(left.insert(id, value)),
                }
            }
            wishes = left;
            if !moved {
                break;
            }
        }
        for (id, value) in wishes {
            if base.options.get(&id) == Some(&value) {
                continue;
            }
            let Found::NotOffered { offered } = find_option(&self.conversation.told(), &id, &value) else {
                continue;
            };
            notices.push(format!("option {id}={value} is not offered and was dropped (offered: {offered})"));
        }
        Ok(())
    }

    async fn set(&self, step: &Step, what: &str, notices: &mut Vec<String>) -> Result<(), CallError> {
        let id = &self.conversation.id;
        let (method, params) = match step {
            Step::Option { id: option, value, switch } => {
                let mut params = json!({"sessionId": id, "configId": option, "value": value});
                if *switch {
                    params["type"] = json!("boolean");
                    params["value"] = json!(value == "true");
                }
                ("session/set_config_option", params)
            }
            Step::Mode(mode) => ("session/set_mode", json!({"sessionId": id, "modeId": mode})),
            Step::Model(model) => ("session/set_model", json!({"sessionId": id, "modelId": model})),
        };
        match self.process.call(method, params, SET_DEADLINE).await {
            Ok(answer) => {
                let mut told = self.conversation.told();
                match step {
                    Step::Option { .. } => told.options_answered(&answer),
                    Step::Mode(mode) => {
                        told.modes.iter_mut().for_each(|modes| modes.current.clone_from(mode))
                    }
                    Step::Model(model) => {
                        told.models.iter_mut().for_each(|models| models.current.clone_from(model));
                    }
                }
                Ok(())
            }
            Err(error @ CallError::Lost(_)) => Err(error),
            Err(error) => {
                notices.push(format!("{what} could not be set and was left as it is: {error}"));
                Ok(())
            }
        }
    }
}

fn find_model(told: &Told, wish: &str) -> Found {
    match (told.option_for(Purpose::Model), &told.models) {
        (Some(option), _) => find_option(told, &option.id.0, wish),
        (None, Some(models)) => choose(models, wish, Step::Model),
        (None, None) => Found::NotOffered { offered: "none".to_owned() },
    }
}

fn find_mode(told: &Told, wish: &str) -> Found {
    match (told.option_for(Purpose::Mode), &told.modes) {
        (Some(option), _) => find_option(told, &option.id.0, wish),
        (None, Some(modes)) => choose(modes, wish, Step::Mode),
        (None, None) => Found::NotOffered { offered: "none".to_owned() },
    }
}

fn find_thinking(told: &Told, wish: &str) -> Found {
    match told.option_for(Purpose::Thinking) {
        Some(option) => find_option(told, &option.id.0, wish),
        None => Found::NotOffered { offered: "none".to_owned() },
    }
}

fn find_option(told: &Told, id: &str, wish: &str) -> Found {
    let Some(option) = told.option(id) else {
        return Found::NotOffered {
            offered: some_of(told.options.iter().map(|option| option.id.0.to_string())),
        };
    };
    let switch = is_switch(option);
    choose(&selection_of(option), wish, |value| Step::Option { id: id.to_owned(), value, switch })
}

fn choose(selection: &Selection, wish: &str, step: impl FnOnce(String) -> Step) -> Found {
    match selection.find(wish) {
        Some(id) if id == selection.current => Found::Holds,
        Some(id) => Found::Set(step(id.to_owned())),
        // Some agents run with a model that is none of their list.
        None if wish == selection.current => Found::Holds,
        None => {
            Found::NotOffered { offered: some_of(selection.choices.iter().map(|choice| choice.id.clone())) }
        }
    }
}

fn word(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn some_of(names: impl Iterator<Item = String>) -> String {
    let names: Vec<_> = names.collect();
    let more = names.len().saturating_sub(SHOWN_MAX);
    let shown = names.iter().take(SHOWN_MAX).cloned().collect::<Vec<_>>().join(", ");
    match (names.is_empty(), more) {
        (true, _) => "none".to_owned(),
        (false, 0) => shown,
        (false, more) => format!("{shown} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told() -> Told {
        Told::of(&json!({"configOptions": [
            {"id": "model", "name": "Model", "category": "model", "type": "select", "currentValue": "a",
             "options": [{"value": "a", "name": "Alpha"}, {"value": "b", "name": "Beta"}]},
            {"id": "fast", "name": "Fast", "type": "boolean", "currentValue": false}]}))
    }

    #[test]
    fn a_wish_is_found_by_id_or_name_and_nothing_is_set_twice() {
        let set = |id: &str, value: &str, switch| {
            Found::Set(Step::Option { id: id.to_owned(), value: value.to_owned(), switch })
        };
        assert_eq!(find_model(&told(), "a"), Found::Holds);
        assert_eq!(find_model(&told(), "beta"), set("model", "b", false));
        assert_eq!(find_option(&told(), "fast", "true"), set("fast", "true", true));
        assert_eq!(find_model(&told(), "c"), Found::NotOffered { offered: "a, b".into() });
        assert_eq!(find_mode(&told(), "plan"), Found::NotOffered { offered: "none".into() });
        let gemini = Told::of(
            &json!({"models": {"currentModelId": "odd", "availableModels": [{"modelId": "m", "name": "M"}]}}),
        );
        assert_eq!(find_model(&gemini, "m"), Found::Set(Step::Model("m".into())));
        assert_eq!(find_model(&gemini, "odd"), Found::Holds);
    }

    #[test]
    fn what_held_at_the_beginning_is_what_a_task_without_wishes_gets() {
        let base = Base::of(&told());
        assert_eq!(base.model.as_deref(), Some("a"));
        assert_eq!(base.options.get("fast").map(String::as_str), Some("false"));
    }
}
