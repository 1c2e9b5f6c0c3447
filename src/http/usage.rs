//! `/api/usage`.

use super::Api;
use super::problem::{Params, Refusal, limit};
use super::sessions::workspace_of;
use crate::domain::access::Caller;
use crate::wire::api::UsageView;
use axum::Json;
use axum::extract::State;
use chrono::{DateTime, Datelike, Duration, Utc};
use serde::Deserialize;

/// What sums are made by.
const BY: [&str; 5] = ["agent", "model", "day", "session", "project"];
/// Since when, where nothing is said.
const DAYS: i64 = 30;

#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct SumParams {
    /// `agent`, `model`, `day`, `session` or `project`; `agent` by default.
    by: Option<String>,
    /// From then on; the last 30 days by default.
    since: Option<DateTime<Utc>>,
    /// Before then; now by default.
    until: Option<DateTime<Utc>>,
    /// 1 to 500; 100 by default.
    #[param(minimum = 1, maximum = 500)]
    limit: Option<i64>,
}

/// What turns used, in sums, the last first.
#[utoipa::path(get, path = "/usage", tag = "usage", params(SumParams),
    responses((status = 200, description = "Sums", body = Vec<UsageView>)))]
pub(super) async fn sum(
    State(api): State<Api>,
    caller: Caller,
    Params(params): Params<SumParams>,
) -> Result<Json<Vec<UsageView>>, Refusal> {
    let by = params.by.as_deref().unwrap_or(BY[0]);
    if !BY.contains(&by) {
        return Err(Refusal::invalid(format!("by must be one of {}", BY.join(", "))));
    }
    let until = params.until.unwrap_or_else(Utc::now);
    let since = params.since.or_else(|| until.checked_sub_signed(Duration::days(DAYS)));
    // What Postgres has a date for.
    let fine = |at: &DateTime<Utc>| (1..=9999).contains(&at.year());
    let Some(since) = since.filter(|since| fine(since) && fine(&until)) else {
        return Err(Refusal::invalid("since and until must be between the years 1 and 9999"));
    };
    let limit = limit(params.limit, 100)?;
    Ok(Json(api.store.usage(by, (since, until), workspace_of(&caller), limit).await?))
}
