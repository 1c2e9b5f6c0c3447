//! Standing permission rules: what a person allowed or forbade for more than one question. An allowing rule fails closed: what
//! it cannot know of a request it does not allow. A forbidding one may refuse what it cannot know. Pure; what a request asks
//! for, `tool_use` reads.

mod command;
mod path;

use super::permission::{PermissionDecision, PermissionKind, PermissionRequest};
use super::tool_use::{Deed, ToolUse, is_shell};
use serde_json::Value;
use uuid::Uuid;

/// Longest name of a tool in a rule, in bytes. The CHECK of `permission_rules.tool` repeats it.
pub const TOOL_BYTES_MAX: usize = 100;
/// Longest pattern, in bytes. The CHECK of `permission_rules.pattern` repeats it.
pub const PATTERN_BYTES_MAX: usize = 1000;

/// What a rule does. The CHECK of `permission_rules.decision` repeats this list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RuleDecision {
    /// What it matches is allowed, where a person would be asked.
    Allow,
    /// What it matches is refused, whatever the policy says.
    Deny,
}

impl RuleDecision {
    /// Both, in the order of the SQL CHECK.
    pub const ALL: [Self; 2] = [Self::Allow, Self::Deny];

    /// The word in SQL and JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
        }
    }

    /// The decision of that word.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|decision| decision.as_str() == word)
    }
}

/// What a rule is for, as a person wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleText {
    /// The tool's name, in lower case.
    pub tool: String,
    /// The words that a command begins with, or the paths within the worktree; `None`: whatever the tool does.
    pub pattern: Option<String>,
    /// The pattern is the whole command, or the path itself, and no more than that.
    pub exact: bool,
}

/// A rule that holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StandingRule {
    /// Its row.
    pub id: Uuid,
    text: RuleText,
    decision: RuleDecision,
    scope: Scope,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Scope {
    Whatever,
    Words(Vec<String>),
    Paths(String),
}

/// Why a rule cannot be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadRule {
    /// The tool has no name that a request could have.
    #[error(
        "tool must be a tool's name of 1 to {TOOL_BYTES_MAX} characters without spaces, as `bash`, `edit` or `webfetch`"
    )]
    Tool,
    /// Every tool without a name is called so.
    #[error("{0:?} is what tools without a name are called: a rule for all of them would allow anything")]
    Nameless(String),
    /// Allowing a shell without a word is allowing everything.
    #[error(
        "a rule that allows a shell needs a pattern: the words that the command begins with, as `cargo test`"
    )]
    ShellWithoutWords,
    /// Its arguments are commands.
    #[error(
        "{0:?} runs what follows it: a rule that allows it needs the words of the command as well, or to be exact"
    )]
    Runner(String),
    /// There is nothing to be exact about.
    #[error("exact goes with a pattern")]
    ExactWithoutPattern,
    /// It is too long.
    #[error("the pattern must have at most {PATTERN_BYTES_MAX} bytes")]
    Long,
    /// It is no simple command.
    #[error(
        "the pattern must be the words that one command begins with, without anything that a shell reads as more than words: \
         ; & | < > ( ) {{ }} $ ` \\ ! # ^ and line breaks"
    )]
    Words,
    /// It is no path within the worktree.
    #[error(
        "the pattern must be a path within the worktree, as src/** or docs/*.md: relative, without .. and .git; * and ? stand \
         for characters of a name, ** for any folders"
    )]
    Path,
}

/// Why no rule can be made of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoRule {
    /// Only tools have rules.
    #[error("only what a tool asks can have a standing rule, and this is no tool's question")]
    NoTool,
    /// It does not say what it does.
    #[error(
        "the request does not say what exactly it would do, so that no rule could know it again: answer it for this once"
    )]
    Untold,
    /// It is more than one plain command.
    #[error(
        "the command is more than plain words, so that no rule could know what it does: answer it for this once"
    )]
    NotPlain,
    /// Its files are elsewhere, or several.
    #[error(
        "the request is not for one file within the worktree: answer it for this once, or make a rule with a pattern"
    )]
    NotOneFile,
    /// Its name alone says too little.
    #[error(
        "the request is known by its tool's name alone: to allow all that this tool does, make a rule for the tool"
    )]
    NameAlone,
}

/// A rule as who answered a request.
pub fn answerer(rule: Uuid) -> String {
    format!("rule {rule}")
}

impl StandingRule {
    /// A rule as a person writes it.
    ///
    /// # Errors
    /// [`BadRule`].
    pub fn new(id: Uuid, text: RuleText, decision: RuleDecision) -> Result<Self, BadRule> {
        let text = RuleText { tool: text.tool.to_lowercase(), ..text };
        let named = !text.tool.is_empty() && text.tool.bytes().all(|byte| byte.is_ascii_graphic());
        if !named || text.tool.len() > TOOL_BYTES_MAX {
            return Err(BadRule::Tool);
        }
        let allows = decision == RuleDecision::Allow;
        if allows && matches!(text.tool.as_str(), "tool" | "other") {
            return Err(BadRule::Nameless(text.tool));
        }
        let scope = match &text.pattern {
            None if text.exact => return Err(BadRule::ExactWithoutPattern),
            None if allows && is_shell(&text.tool) => return Err(BadRule::ShellWithoutWords),
            None => Scope::Whatever,
            Some(pattern) if pattern.len() > PATTERN_BYTES_MAX => return Err(BadRule::Long),
            Some(pattern) if is_shell(&text.tool) => {
                let words = command::words(pattern).ok_or(BadRule::Words)?;
                if allows && !text.exact && command::runs_whatever_follows(&words) {
                    return Err(BadRule::Runner(pattern.clone()));
                }
                Scope::Words(words)
            }
            Some(pattern) if path::is_pattern(pattern, text.exact) => Scope::Paths(pattern.clone()),
            Some(_) => return Err(BadRule::Path),
        };
        Ok(Self { id, text, decision, scope })
    }

    /// A rule as a row has it. One that nobody could have made here (its row was written by hand) allows nothing; if it
    /// forbids, it forbids all that its tool does.
    pub fn of_row(id: Uuid, text: RuleText, decision: RuleDecision) -> Option<Self> {
        let tool = text.tool.to_lowercase();
        match (Self::new(id, text.clone(), decision), decision) {
            (Ok(rule), _) => Some(rule),
            (Err(_), RuleDecision::Allow) => None,
            (Err(_), RuleDecision::Deny) => {
                Some(Self { id, text: RuleText { tool, ..text }, decision, scope: Scope::Whatever })
            }
        }
    }

    /// What it is for.
    pub fn text(&self) -> &RuleText {
        &self.text
    }

    /// What it does.
    pub fn decision(&self) -> RuleDecision {
        self.decision
    }

    /// What the agent hears when this rule answers it.
    pub fn answer(&self) -> PermissionDecision {
        match self.decision {
            RuleDecision::Allow => PermissionDecision::AllowOnce,
            RuleDecision::Deny => {
                let RuleText { tool, pattern, .. } = &self.text;
                let what =
                    pattern.as_ref().map_or_else(|| tool.clone(), |pattern| format!("{tool} {pattern}"));
                let message = format!("refused by standing rule {}, which forbids: {what}", self.id);
                PermissionDecision::Deny { message: Some(message) }
            }
        }
    }

    fn matches(&self, used: &ToolUse, worktree: Option<&str>) -> bool {
        match self.decision {
            RuleDecision::Allow => self.allows(used, worktree),
            RuleDecision::Deny => self.forbids(used, worktree),
        }
    }

    fn allows(&self, used: &ToolUse, worktree: Option<&str>) -> bool {
        if !used.is_called(&self.text.tool) || used.is_redacted() {
            return false;
        }
        match (&self.scope, &used.deed) {
            (Scope::Words(words), Deed::Command { text: Some(text), alone: true, folder }) => {
                // A tool of another name may be of the kind of a shell and run the words elsewhere.
                let here = folder.as_ref().is_none_or(|folder| path::is_within(folder, worktree));
                let asked = command::words(text).filter(|_| here && is_shell(&used.tool));
                asked.is_some_and(
                    |asked| if self.text.exact { asked == *words } else { asked.starts_with(words) },
                )
            }
            (Scope::Paths(pattern), Deed::Files(Some(paths))) => paths.iter().all(|told| {
                path::within(told, worktree).is_some_and(|parts| path::fits(pattern, &parts, self.text.exact))
            }),
            (Scope::Whatever, Deed::Files(Some(paths))) => {
                paths.iter().all(|told| !told.is_empty() && path::is_within(told, worktree))
            }
            (Scope::Whatever, Deed::Other) => true,
            (Scope::Words(_) | Scope::Paths(_) | Scope::Whatever, _) => false,
        }
    }

    fn forbids(&self, used: &ToolUse, worktree: Option<&str>) -> bool {
        if !used.is_called(&self.text.tool) {
            // What runs a command is a shell, whatever it is called.
            return match (&self.scope, &used.deed) {
                (Scope::Words(_) | Scope::Whatever, Deed::Command { .. }) if is_shell(&self.text.tool) => {
                    self.forbids_deed(&used.deed, worktree)
                }
                _ => false,
            };
        }
        self.forbids_deed(&used.deed, worktree)
    }

    fn forbids_deed(&self, deed: &Deed, worktree: Option<&str>) -> bool {
        match (&self.scope, deed) {
            (Scope::Words(words), Deed::Command { text: Some(text), alone, .. }) => {
                match command::words(text) {
                    // What goes with it may be a part of it or not.
                    Some(asked) if self.text.exact && *alone => command::ends_with(text, &asked, words),
                    Some(_) | None => command::says(text, words),
                }
            }
            (Scope::Paths(pattern), Deed::Files(Some(paths))) => {
                paths.iter().any(|told| path::may_fit(pattern, told, worktree, self.text.exact))
            }
            // Whatever it does; or it does not say enough to be known as something else.
            (Scope::Whatever | Scope::Words(_) | Scope::Paths(_), _) => true,
        }
    }
}

/// The rule that answers a request: of several that match, one that forbids. Only what a tool asks is answered by rules.
pub fn ruling<'a>(
    rules: &'a [StandingRule],
    request: &PermissionRequest,
    worktree: Option<&str>,
) -> Option<&'a StandingRule> {
    if request.kind != PermissionKind::Tool {
        return None;
    }
    ruling_on(rules, &request.payload, worktree)
}

/// As [`ruling`], on what a tool asked.
pub fn ruling_on<'a>(
    rules: &'a [StandingRule],
    payload: &Value,
    worktree: Option<&str>,
) -> Option<&'a StandingRule> {
    let used = ToolUse::of(payload)?;
    let once = offers_once(payload);
    let heeded = |rule: &&StandingRule| once || rule.decision == RuleDecision::Deny;
    let mut matching = rules.iter().filter(heeded).filter(|rule| rule.matches(&used, worktree));
    let first = matching.next()?;
    let denies = |rule: &&StandingRule| rule.decision == RuleDecision::Deny;
    if denies(&first) { Some(first) } else { matching.find(denies).or(Some(first)) }
}

/// Can the agent be told yes for this once? Where it offers options and none of that kind, a yes would be one for always,
/// which is a person's to give.
fn offers_once(payload: &Value) -> bool {
    let Some(options) = payload.get("options").and_then(Value::as_array) else { return true };
    options.iter().any(|option| option.get("kind").and_then(Value::as_str) == Some("allow_once"))
}

/// The narrowest rule that allows what a request asks for, and nothing else.
///
/// # Errors
/// [`NoRule`] when none would be sure to.
pub fn derived(kind: PermissionKind, payload: &Value, worktree: Option<&str>) -> Result<RuleText, NoRule> {
    if kind != PermissionKind::Tool {
        return Err(NoRule::NoTool);
    }
    let used = ToolUse::of(payload).ok_or(NoRule::Untold)?;
    if used.is_redacted() {
        return Err(NoRule::Untold);
    }
    let (pattern, otherwise) = match &used.deed {
        Deed::Command { alone: false, .. } => return Err(NoRule::Untold),
        Deed::Command { text, .. } => {
            (text.as_ref().ok_or(NoRule::Untold)?.trim().to_owned(), NoRule::NotPlain)
        }
        Deed::Files(paths) => {
            let paths = paths.as_ref().ok_or(NoRule::Untold)?;
            let mut parts: Vec<_> = paths.iter().map(|told| path::within(told, worktree)).collect();
            parts.dedup();
            match &parts[..] {
                [Some(parts)] => (parts.join("/"), NoRule::NotOneFile),
                _ => return Err(NoRule::NotOneFile),
            }
        }
        Deed::Other => return Err(NoRule::NameAlone),
    };
    let text = RuleText { tool: used.tool.clone(), pattern: Some(pattern), exact: true };
    let rule = StandingRule::new(Uuid::nil(), text, RuleDecision::Allow).map_err(|_| otherwise)?;
    if rule.matches(&used, worktree) { Ok(rule.text) } else { Err(otherwise) }
}

#[cfg(test)]
mod tests;
