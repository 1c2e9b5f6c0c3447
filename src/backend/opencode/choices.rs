//! What a task wishes, held against what this opencode offers: what is not offered is dropped with a notice.

use super::client::{CallError, Choices, Client};
use crate::domain::catalogue as domain;
use crate::domain::task::TaskSettings;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// How many names a notice lists.
const SHOWN_MAX: usize = 5;

/// What a server offers in a directory.
#[derive(Debug, Default)]
pub(super) struct Catalogue {
    /// `provider/model` → levels of thinking.
    models: BTreeMap<String, Vec<String>>,
    /// Modes that may be asked for.
    agents: Vec<String>,
    /// The model of opencode's own configuration.
    configured: Option<String>,
}

/// Why nothing can be chosen.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("opencode offers no model{0}: log in with `opencode auth login` or configure a provider")]
pub(super) struct NoModel(String);

impl Catalogue {
    /// Asks the server.
    pub async fn read(client: &Client, directory: &str) -> Result<Self, CallError> {
        let (providers, agents, config) = tokio::try_join!(
            client.providers(directory),
            client.agents(directory),
            client.config(directory)
        )?;
        Ok(Self::of(&providers, &agents, &config))
    }

    /// In everybody's words. Levels of thinking are a model's own; here are those that any has.
    pub fn offered(&self, version: &str, default_model: Option<&str>) -> domain::Catalogue {
        let default = default_model.or(self.configured.as_deref());
        let offer =
            |id: &String, is_default: bool| domain::Offer { id: id.clone(), name: id.clone(), is_default };
        let levels: BTreeSet<&String> = self.models.values().flatten().collect();
        domain::Catalogue {
            program: format!("opencode {version}"),
            models: self.models.keys().map(|model| offer(model, default == Some(model.as_str()))).collect(),
            modes: self.agents.iter().enumerate().map(|(n, mode)| offer(mode, n == 0)).collect(),
            thinking: levels.into_iter().map(|level| offer(level, false)).collect(),
            ..domain::Catalogue::default()
        }
    }

    fn of(providers: &Value, agents: &Value, config: &Value) -> Self {
        let mut models = BTreeMap::new();
        for provider in providers["providers"].as_array().into_iter().flatten() {
            let Some(id) = provider["id"].as_str() else { continue };
            for (model, facts) in provider["models"].as_object().into_iter().flatten() {
                let variants = facts["variants"].as_object().into_iter().flatten();
                models.insert(format!("{id}/{model}"), variants.map(|(name, _)| name.clone()).collect());
            }
        }
        let agents = agents.as_array().into_iter().flatten().filter(|agent| {
            // A subagent is called by tools; hidden ones (title, summary) are opencode's own.
            agent["mode"] != "subagent" && agent["hidden"] != true
        });
        Self {
            models,
            agents: agents.filter_map(|agent| agent["name"].as_str().map(str::to_owned)).collect(),
            configured: config["model"].as_str().map(str::to_owned),
        }
    }

    /// What is sent with the prompt, and what the reader should know. A model is named whenever one is known:
    /// opencode would otherwise go on with the last one of the conversation.
    ///
    /// # Errors
    /// [`NoModel`] when the wish cannot be met and there is nothing else.
    pub fn choose(
        &self,
        settings: &TaskSettings,
        default_model: Option<&str>,
    ) -> Result<(Choices, Vec<String>), NoModel> {
        let mut notices = Vec::new();
        let fallback = default_model.filter(|model| self.models.contains_key(*model));
        let fallback = fallback.or(self.configured.as_deref());
        let wished = settings.model.as_deref().or(default_model);
        let model = match wished {
            Some(model) if self.models.contains_key(model) => Some(model),
            Some(_) if self.models.is_empty() => return Err(NoModel(String::new())),
            Some(model) => {
                let used = fallback.unwrap_or("opencode's own default");
                let offered = some_of(self.models.keys());
                notices.push(format!("model {model:?} is not offered; {used} is used (offered: {offered})"));
                fallback
            }
            None => fallback,
        };
        let agent = settings.mode_id.clone().filter(|mode| {
            let known = self.agents.contains(mode);
            if !known {
                let offered = some_of(self.agents.iter());
                notices.push(format!("mode {mode:?} is not offered and was dropped (offered: {offered})"));
            }
            known
        });
        let levels = model.and_then(|model| self.models.get(model)).map(Vec::as_slice).unwrap_or_default();
        let variant = settings.thinking_option_id.clone().filter(|level| {
            let known = levels.contains(level);
            if !known {
                let offered = if levels.is_empty() { "none".to_owned() } else { some_of(levels.iter()) };
                notices
                    .push(format!("thinking {level:?} is not offered and was dropped (offered: {offered})"));
            }
            known
        });
        if settings
            .feature_values
            .as_ref()
            .is_some_and(|values| values.as_object().is_none_or(|v| !v.is_empty()))
        {
            notices.push("opencode offers no further options; feature_values was dropped".to_owned());
        }
        let model = model.and_then(|model| model.split_once('/')).map(|(p, m)| (p.to_owned(), m.to_owned()));
        Ok((Choices { model, agent, variant }, notices))
    }
}

fn some_of<'a>(names: impl Iterator<Item = &'a String>) -> String {
    let names: Vec<_> = names.map(String::as_str).collect();
    let more = names.len().saturating_sub(SHOWN_MAX);
    let shown = names.iter().take(SHOWN_MAX).copied().collect::<Vec<_>>().join(", ");
    if more == 0 { shown } else { format!("{shown} and {more} more") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn catalogue() -> Catalogue {
        let providers = json!({"providers": [{"id": "local", "models": {
            "echo": {"variants": {"high": {}}}, "org/deep": {"variants": null}}}]});
        let agents = json!([{"name": "build", "mode": "primary"}, {"name": "explore", "mode": "subagent"}]);
        Catalogue::of(&providers, &agents, &json!({"model": "local/echo"}))
    }

    fn settings(model: &str) -> TaskSettings {
        TaskSettings { model: Some(model.to_owned()), ..TaskSettings::default() }
    }

    #[test]
    fn what_is_offered_is_chosen_without_a_word() {
        let wishes = TaskSettings {
            mode_id: Some("build".to_owned()),
            thinking_option_id: Some("high".to_owned()),
            ..settings("local/echo")
        };
        let (choices, notices) = catalogue().choose(&wishes, None).unwrap();
        assert_eq!(choices.model, Some(("local".to_owned(), "echo".to_owned())));
        assert_eq!((choices.agent.as_deref(), choices.variant.as_deref()), (Some("build"), Some("high")));
        assert!(notices.is_empty(), "{notices:?}");
        let (choices, _) = catalogue().choose(&settings("local/org/deep"), None).unwrap();
        assert_eq!(choices.model, Some(("local".to_owned(), "org/deep".to_owned())));
    }

    #[test]
    fn what_is_not_offered_is_dropped_and_the_notice_says_what_is_used() {
        let wishes = TaskSettings { mode_id: Some("explore".to_owned()), ..settings("nope/no") };
        let (choices, notices) = catalogue().choose(&wishes, Some("local/org/deep")).unwrap();
        assert_eq!(choices.model, Some(("local".to_owned(), "org/deep".to_owned())));
        assert_eq!(choices.agent, None);
        assert!(
            notices[0].contains("nope/no") && notices[0].contains("local/org/deep is used"),
            "{notices:?}"
        );
        assert_eq!(notices.len(), 2);
    }

    #[test]
    fn the_configured_model_is_named_so_that_the_last_tasks_model_does_not_stick() {
        let (choices, _) = catalogue().choose(&TaskSettings::default(), None).unwrap();
        assert_eq!(choices.model, Some(("local".to_owned(), "echo".to_owned())));
    }
}
