//! Identifiers, one type a noun, so that a session can never be passed for a task.

use uuid::Uuid;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub Uuid);

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.fmt(f)
            }
        }

        impl std::str::FromStr for $name {
            type Err = uuid::Error;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Uuid::parse_str(text).map(Self)
            }
        }
    };
}

id!(
    /// The tenant.
    WorkspaceId
);
id!(
    /// A git repository that sessions work on.
    ProjectId
);
id!(
    /// One line of work on one project; the lane of the queue carries the same id.
    SessionId
);
id!(
    /// One prompt for one (session, agent).
    TaskId
);
id!(
    /// An installation that runs turns; kept in its data folder.
    NodeId
);
id!(
    /// One start of a node.
    Incarnation
);
id!(
    /// One question that an agent asked of a person.
    PermissionId
);

/// A number that only grows per lane: who holds the newest may write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fence(pub i64);
