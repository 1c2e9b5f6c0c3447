//! What the agent offers, asked of a conversation that is opened for it alone and closed again. Asked once a program: another
//! file or time of change is another program.

use super::life::Life;
use super::offers::{Purpose, Told, purpose_of, selection_of};
use super::roster::Live;
use super::{Selection, open};
use crate::backend::{BackendError, EnsureSession};
use crate::domain::catalogue::{Catalogue, CommandOffer, Offer, OptionOffer};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::time::Instant;

/// Commands are told after the conversation was opened: up to 3 s later, as was seen.
const COMMANDS_WAIT: Duration = Duration::from_secs(3);
/// Between two looks whether they came.
const LOOK: Duration = Duration::from_millis(50);

/// Which program: its path, length and time of change.
type Program = (PathBuf, u64, Option<SystemTime>);

/// What was asked already.
#[derive(Default)]
pub(super) struct Known(tokio::sync::Mutex<Option<(Program, Catalogue)>>);

impl Known {
    /// The catalogue; one asks for all who wait.
    ///
    /// # Errors
    /// When no conversation can be opened.
    ///
    /// # Cancel safety
    /// May be dropped: what was started for it is ended.
    pub(super) async fn get(&self, life: &Arc<Life>) -> Result<Catalogue, BackendError> {
        let mut known = self.0.lock().await;
        let program = program_of(life);
        if let Some((of, catalogue)) = known.as_ref()
            && *of == program
        {
            return Ok(catalogue.clone());
        }
        let catalogue = ask(life).await?;
        *known = Some((program, catalogue.clone()));
        Ok(catalogue)
    }
}

fn program_of(life: &Life) -> Program {
    // A script's own time counts too: its interpreter stays the same.
    let config = life.config();
    let script = config.args.iter().map(PathBuf::from).find(|arg| arg.is_absolute());
    let path = script.unwrap_or_else(|| config.program.clone());
    let meta = std::fs::metadata(&path).ok();
    let (length, changed) =
        (meta.as_ref().map_or(0, std::fs::Metadata::len), meta.and_then(|meta| meta.modified().ok()));
    (path, length, changed)
}

async fn ask(life: &Arc<Life>) -> Result<Catalogue, BackendError> {
    let opts = EnsureSession {
        worktree: life.config().cwd.clone(),
        title: "what is offered".to_owned(),
        resume: None,
        interrupted: Vec::new(),
    };
    let (live, _) = open::open(life, &opts).await?;
    let probe = Probe { life, live: Some(live) };
    let until = Instant::now() + COMMANDS_WAIT;
    while probe.told(|told| told.commands.is_empty()) && Instant::now() < until {
        tokio::time::sleep(LOOK).await;
    }
    let able = &probe.live().process.able;
    let program = format!("{} {}", able.name, able.version).trim().to_owned();
    let catalogue = probe.told(|told| of(told, program));
    probe.end().await;
    Ok(catalogue)
}

/// The conversation that was opened to ask; given back also when nobody waits any more.
struct Probe<'a> {
    life: &'a Arc<Life>,
    live: Option<Live>,
}

impl Probe<'_> {
    fn live(&self) -> &Live {
        self.live.as_ref().expect("it is taken at the end, by value")
    }

    fn told<T>(&self, read: impl FnOnce(&Told) -> T) -> T {
        read(&self.live().conversation.told())
    }

    async fn end(mut self) {
        if let Some(live) = self.live.take() {
            self.life.take(&live.conversation.id);
            self.life.let_go(live).await;
        }
    }
}

impl Drop for Probe<'_> {
    fn drop(&mut self) {
        if let Some(live) = self.live.take() {
            let life = Arc::clone(self.life);
            self.life.take(&live.conversation.id);
            self.life.tracker.spawn(async move { life.let_go(live).await });
        }
    }
}

fn of(told: &Told, program: String) -> Catalogue {
    let for_purpose = |purpose| told.option_for(purpose).map(selection_of);
    let older = |selection: &Option<Selection>| selection.clone();
    let models = for_purpose(Purpose::Model).or_else(|| older(&told.models));
    let modes = for_purpose(Purpose::Mode).or_else(|| older(&told.modes));
    let others = told.options.iter().filter(|option| purpose_of(option) == Purpose::Other);
    Catalogue {
        program,
        models: offers(models),
        modes: offers(modes),
        thinking: offers(for_purpose(Purpose::Thinking)),
        options: others
            .map(|option| OptionOffer {
                id: option.id.0.to_string(),
                name: option.name.clone(),
                values: offers(Some(selection_of(option))),
            })
            .collect(),
        commands: told
            .commands
            .iter()
            .map(|command| CommandOffer {
                name: command.name.clone(),
                description: command.description.clone(),
            })
            .collect(),
    }
}

fn offers(selection: Option<Selection>) -> Vec<Offer> {
    let Some(Selection { current, choices }) = selection else { return Vec::new() };
    let offer = |choice: super::offers::Choice| Offer {
        is_default: choice.id == current,
        id: choice.id,
        name: choice.name,
    };
    choices.into_iter().map(offer).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_told_in_either_way_is_offered() {
        let told = Told::of(&json!({
            "modes": {"currentModeId": "ask", "availableModes": [{"id": "ask", "name": "Ask"}, {"id": "plan", "name": "Plan"}]},
            "configOptions": [
                {"id": "model", "name": "Model", "category": "model", "type": "select", "currentValue": "b",
                 "options": [{"value": "a", "name": "A"}, {"value": "b", "name": "B"}]},
                {"id": "fast", "name": "Fast", "type": "boolean", "currentValue": false}]}));
        let catalogue = of(&told, "x 1".into());
        let ids = |offers: &[Offer]| {
            offers.iter().map(|offer| (offer.id.clone(), offer.is_default)).collect::<Vec<_>>()
        };
        assert_eq!(ids(&catalogue.models), [("a".into(), false), ("b".into(), true)]);
        assert_eq!(ids(&catalogue.modes), [("ask".into(), true), ("plan".into(), false)]);
        assert_eq!(ids(&catalogue.options[0].values), [("true".into(), false), ("false".into(), true)]);
        assert!(catalogue.thinking.is_empty());
    }
}
