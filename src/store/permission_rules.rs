//! Standing permission rules as rows, and the open questions that a new one may answer. Never decides what a rule matches.

use super::{Store, StoreError, sql};
use crate::domain::permission_rule::{RuleDecision, RuleText, StandingRule};
use chrono::{DateTime, Utc};
use serde_json::Value;
use tokio_postgres::Row;
use tokio_postgres::types::{ToSql, Type};
use uuid::Uuid;

/// Most rules for one session and agent: all that hold are read for each question.
pub const RULES_MAX: i64 = 500;
/// Most open questions that a new rule is held against.
const OPEN_MAX: i64 = 1000;

/// A rule to be stored.
#[derive(Clone, Debug)]
pub struct NewRule {
    /// Tenant.
    pub workspace: Uuid,
    /// In that session only.
    pub session: Option<Uuid>,
    /// Of that agent only.
    pub agent: Option<String>,
    /// What holds.
    pub text: RuleText,
    /// What it does.
    pub decision: RuleDecision,
    /// Who makes it.
    pub by: String,
}

/// A stored rule.
#[derive(Clone, Debug)]
pub struct RuleRow {
    /// Id.
    pub id: Uuid,
    /// Tenant.
    pub workspace: Uuid,
    /// In that session only.
    pub session: Option<Uuid>,
    /// Of that agent only.
    pub agent: Option<String>,
    /// What holds.
    pub text: RuleText,
    /// `allow` or `deny`.
    pub decision: String,
    /// Since when.
    pub created_at: DateTime<Utc>,
    /// Who made it.
    pub created_by: String,
}

/// What a listing is to hold; `None` leaves all in.
#[derive(Clone, Debug, Default)]
pub struct RuleFilter {
    /// That rule.
    pub id: Option<Uuid>,
    /// For that session.
    pub session: Option<Uuid>,
    /// For that agent.
    pub agent: Option<String>,
    /// Older than that rule.
    pub before: Option<Uuid>,
    /// Of that tenant.
    pub workspace: Option<Uuid>,
}

/// What a tool asks and nobody has answered.
#[derive(Clone, Debug)]
pub struct OpenRequest {
    /// Request.
    pub id: Uuid,
    /// Session.
    pub session: Uuid,
    /// Agent.
    pub agent: String,
    /// What the agent sent.
    pub payload: Value,
    /// Where the session's worktree is.
    pub worktree: Option<String>,
}

/// What an answer that makes a rule came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnsweredWithRule {
    /// Both are written.
    Done(Uuid),
    /// There are too many rules; nothing is written.
    TooManyRules,
    /// It is no longer pending; nothing is written.
    NotPending,
}

impl Store {
    /// Stores a rule; one that was made before is that one. `None`: there are [`RULES_MAX`] already.
    ///
    /// # Errors
    /// [`StoreError::Refused`] for an unknown session or agent.
    pub async fn create_rule(&self, rule: &NewRule) -> Result<Option<Uuid>, StoreError> {
        let client = self.engine().await?;
        let decision = rule.decision.as_str();
        let row = client.query_opt(sql!("permission_rules/insert"), &values(rule, &decision)).await?;
        Ok(row.map(|row| row.get(0)))
    }

    /// A person answers a request and makes a rule of it: both, or neither.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn answer_with_rule(
        &self,
        request: Uuid,
        answer: &Value,
        by: &str,
        rule: &NewRule,
    ) -> Result<AnsweredWithRule, StoreError> {
        let mut client = self.engine().await?;
        let tx = client.transaction().await?;
        let decision = rule.decision.as_str();
        let made = tx.query_opt(sql!("permission_rules/insert"), &values(rule, &decision)).await?;
        let Some(made) = made else { return Ok(AnsweredWithRule::TooManyRules) };
        // Dropped uncommitted, the transaction takes the rule back.
        if tx.execute(sql!("permissions/answer"), &[&request, answer, &by]).await? == 0 {
            return Ok(AnsweredWithRule::NotPending);
        }
        tx.commit().await?;
        Ok(AnsweredWithRule::Done(made.get(0)))
    }

    /// Rules, newest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn rules(&self, filter: &RuleFilter, limit: i64) -> Result<Vec<RuleRow>, StoreError> {
        let client = self.reads().await?;
        let rows = client
            .query_typed(
                sql!("permission_rules/list"),
                &[
                    (&filter.id, Type::UUID),
                    (&filter.session, Type::UUID),
                    (&filter.agent, Type::TEXT),
                    (&filter.before, Type::UUID),
                    (&filter.workspace, Type::UUID),
                    (&limit, Type::INT8),
                ],
            )
            .await?;
        Ok(rows.iter().map(rule_row).collect())
    }

    /// Takes a rule away; false when there is none.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn delete_rule(&self, id: Uuid) -> Result<bool, StoreError> {
        let client = self.engine().await?;
        Ok(client.query_opt(sql!("permission_rules/delete"), &[&id]).await?.is_some())
    }

    /// The rules that hold for one agent in one session.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn standing_rules(&self, session: Uuid, agent: &str) -> Result<Vec<StandingRule>, StoreError> {
        let client = self.engine().await?;
        let statement = client.prepare_cached(sql!("permission_rules/standing")).await?;
        let rows = client.query(&statement, &[&session, &agent]).await?;
        Ok(rows.iter().filter_map(standing_rule).collect())
    }

    /// What tools ask where a rule of that reach may answer.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn open_requests(
        &self,
        workspace: Uuid,
        session: Option<Uuid>,
        agent: Option<&str>,
    ) -> Result<Vec<OpenRequest>, StoreError> {
        let client = self.engine().await?;
        let params: [&(dyn ToSql + Sync); 4] = [&workspace, &session, &agent, &OPEN_MAX];
        let rows = client.query(sql!("permission_rules/open_requests"), &params).await?;
        Ok(rows
            .iter()
            .map(|row| OpenRequest {
                id: row.get("id"),
                session: row.get("session_id"),
                agent: row.get("agent"),
                payload: row.get("payload"),
                worktree: row.get("worktree_path"),
            })
            .collect())
    }

    /// Where a session's worktree is, on its home.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn worktree_at_home(&self, session: Uuid) -> Result<Option<String>, StoreError> {
        let client = self.reads().await?;
        let rows = client.query_typed(sql!("permission_rules/worktree"), &[(&session, Type::UUID)]).await?;
        Ok(rows.first().map(|row| row.get(0)))
    }
}

fn values<'a>(rule: &'a NewRule, decision: &'a &str) -> [&'a (dyn ToSql + Sync); 9] {
    let NewRule { workspace, session, agent, text, decision: _, by } = rule;
    [workspace, session, agent, &text.tool, &text.pattern, &text.exact, decision, by, &RULES_MAX]
}

fn rule_row(row: &Row) -> RuleRow {
    RuleRow {
        id: row.get("id"),
        workspace: row.get("workspace_id"),
        session: row.get("session_id"),
        agent: row.get("agent"),
        text: rule_text(row),
        decision: row.get("decision"),
        created_at: row.get("created_at"),
        created_by: row.get("created_by"),
    }
}

fn rule_text(row: &Row) -> RuleText {
    RuleText { tool: row.get("tool"), pattern: row.get("pattern"), exact: row.get("exact") }
}

/// `None` for one that could not have been made here and would allow.
fn standing_rule(row: &Row) -> Option<StandingRule> {
    // The CHECK knows no third word; should there be one, it allows nothing.
    let decision = RuleDecision::parse(row.get("decision")).unwrap_or(RuleDecision::Deny);
    StandingRule::of_row(row.get("id"), rule_text(row), decision)
}
