//! What an agent offers: models, modes, levels of thinking, options, commands.

/// Everything that a task may wish of an agent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Catalogue {
    /// The program as it calls itself, with its version.
    pub program: String,
    /// For `model`.
    pub models: Vec<Offer>,
    /// For `mode_id`.
    pub modes: Vec<Offer>,
    /// For `thinking_option_id`.
    pub thinking: Vec<Offer>,
    /// For `feature_values`.
    pub options: Vec<OptionOffer>,
    /// What can be asked for with a slash.
    pub commands: Vec<CommandOffer>,
}

/// A thing that can be chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// What a task names.
    pub id: String,
    /// For people.
    pub name: String,
    /// It is what a task without a wish gets.
    pub is_default: bool,
}

/// An option with its values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OptionOffer {
    /// What a task names.
    pub id: String,
    /// For people.
    pub name: String,
    /// What it may be set to.
    pub values: Vec<Offer>,
}

/// A command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandOffer {
    /// Without its slash.
    pub name: String,
    /// A line for people.
    pub description: String,
}
