//! What an agent offers, as JSON.

use super::api::AgentView;
use crate::domain::catalogue::{Catalogue, Offer};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// `GET /api/agents/{name}`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct AgentDetailView {
    /// As in the list.
    #[serde(flatten)]
    pub agent: AgentView,
    /// What it offers; none when it could not be asked.
    pub catalogue: Option<CatalogueView>,
    /// Why not.
    pub catalogue_error: Option<String>,
}

/// What an agent offers.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct CatalogueView {
    /// The program as it calls itself, with its version.
    pub program: String,
    /// For `model`.
    pub models: Vec<OfferView>,
    /// For `mode_id`.
    pub modes: Vec<OfferView>,
    /// For `thinking_option_id`.
    pub thinking: Vec<OfferView>,
    /// For `feature_values`.
    pub options: Vec<OptionView>,
    /// What can be asked for with a slash.
    pub commands: Vec<CommandView>,
}

/// A thing that can be chosen.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct OfferView {
    /// What a task names.
    pub id: String,
    /// For people.
    pub name: String,
    /// It is what a task without a wish gets.
    pub is_default: bool,
}

/// An option with its values.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct OptionView {
    /// What a task names.
    pub id: String,
    /// For people.
    pub name: String,
    /// What it may be set to.
    pub values: Vec<OfferView>,
}

/// A command.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct CommandView {
    /// Without its slash.
    pub name: String,
    /// A line for people.
    pub description: String,
}

impl From<Catalogue> for CatalogueView {
    fn from(catalogue: Catalogue) -> Self {
        Self {
            program: catalogue.program,
            models: offers(catalogue.models),
            modes: offers(catalogue.modes),
            thinking: offers(catalogue.thinking),
            options: catalogue
                .options
                .into_iter()
                .map(|option| OptionView { id: option.id, name: option.name, values: offers(option.values) })
                .collect(),
            commands: catalogue
                .commands
                .into_iter()
                .map(|command| CommandView { name: command.name, description: command.description })
                .collect(),
        }
    }
}

fn offers(offers: Vec<Offer>) -> Vec<OfferView> {
    let view = |offer: Offer| OfferView { id: offer.id, name: offer.name, is_default: offer.is_default };
    offers.into_iter().map(view).collect()
}
