//! Who asks, and what that lets them see.

use super::ids::WorkspaceId;
use uuid::Uuid;

/// What a token is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Everything, in every workspace.
    Admin,
    /// Work in one workspace: sessions, tasks, permissions, changes.
    Client,
    /// A remote runner of one workspace.
    Runner,
}

impl Scope {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Admin, Self::Client, Self::Runner];

    /// The word in rows and in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Client => "client",
            Self::Runner => "runner",
        }
    }

    /// The scope of that word.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.as_str() == word)
    }
}

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The token's row; none for the token of the data folder.
    pub token: Option<Uuid>,
    /// What it is for.
    pub scope: Scope,
    /// Where; none: everywhere.
    pub workspace: Option<WorkspaceId>,
}

impl Caller {
    /// Whoever can read the data folder.
    pub const OWNER: Self = Self { token: None, scope: Scope::Admin, workspace: None };

    /// Things of that workspace are there for this caller.
    pub fn sees(&self, workspace: WorkspaceId) -> bool {
        self.workspace.is_none_or(|own| own == workspace)
    }

    /// May do what concerns the whole service.
    pub fn is_admin(&self) -> bool {
        self.scope == Scope::Admin
    }
}
