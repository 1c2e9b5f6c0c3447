//! Whether a server still answers. Asks only while its event stream is silent, and ends nothing.

use super::patience::Patience;
use super::server::Server;
use crate::process::worked_ticks;
use tokio::time::{Instant, sleep, sleep_until};

/// Returns, with the reason, when the server has left so many probes in a row unanswered and said nothing meanwhile: few when
/// it does nothing either (stopped, deadlocked), many when it works.
///
/// # Cancel safety
/// May be dropped at any point.
pub(super) async fn lost(server: &Server, patience: &Patience) -> String {
    let (mut unanswered, mut idle) = (0, 0);
    loop {
        let quiet_at = server.routes.last_heard() + patience.probe_after;
        if quiet_at > Instant::now() {
            (unanswered, idle) = (0, 0);
            sleep_until(quiet_at).await;
            continue;
        }
        let asked_at = Instant::now();
        let worked = worked_ticks(server.pid);
        let Err(error) = server.client.health(patience.probe_deadline).await else {
            (unanswered, idle) = (0, 0);
            sleep(patience.probe_after).await;
            continue;
        };
        // A refusal comes at once: a server that is starved for a moment has as much time as one that hangs.
        sleep_until(asked_at + patience.probe_deadline).await;
        unanswered += 1;
        idle = if worked_ticks(server.pid) == worked { idle + 1 } else { 0 };
        let is_lost = idle >= patience.probes_max || unanswered >= patience.probes_busy_max;
        if is_lost && server.routes.last_heard() < asked_at {
            return format!("it left {unanswered} probes in a row unanswered; {error}");
        }
    }
}
