//! Work that goes to its end though whoever asked for it hangs up: cut off between git and its rows, the two would tell different things.

use super::Api;
use super::node::LocalError;
use super::problem::Refusal;
use std::future::Future;
use tracing::Instrument;

/// Waits for the work; dropped, lets it go on. The service waits for it before it ends.
pub(super) async fn to_its_end<T: Send + 'static>(
    api: &Api,
    work: impl Future<Output = Result<T, LocalError>> + Send + 'static,
) -> Result<T, Refusal> {
    match api.steps.spawn(work.in_current_span()).await {
        Ok(done) => done.map_err(Refusal::from),
        Err(error) => {
            tracing::error!(%error, "a step of a request met a defect");
            Err(Refusal::internal("the request failed; the service's log has the details"))
        }
    }
}
