//! Looks whether a service answers, and what it says of itself. That none runs is no failure.

use super::Check;
use crate::cli::client::{Client, ClientArgs};
use crate::cli::error::CliError;
use crate::wire::health::HealthView;
use std::time::Duration;
use tokio::time::timeout;

/// Its health comes from memory and one probe: this is long.
const DEADLINE: Duration = Duration::from_secs(10);

pub(super) async fn check(args: &ClientArgs) -> Check {
    let name = "service";
    let client = match Client::new(args) {
        Ok(client) => client,
        Err(error) => return Check::warn(name, error.to_string(), "correct the address or the token"),
    };
    let at = client.url();
    match timeout(DEADLINE, client.get::<HealthView>("/healthz")).await {
        Err(_) => Check::warn(name, format!("{at} does not answer"), "look into its log"),
        Ok(Ok(health)) if health.status == "ok" => {
            let HealthView { version, busy, idle, .. } = health;
            Check::ok(name, format!("{version} at {at}, {busy} busy, {idle} idle"))
        }
        Ok(Ok(health)) => {
            let found = format!("{} at {at}: {}", health.status, troubles(&health));
            Check::warn(name, found, "look into its log")
        }
        Ok(Err(CliError::Unreachable { url })) => {
            Check::warn(name, format!("none answers at {url}"), "start one with `agentpool serve`")
        }
        Ok(Err(error)) => {
            Check::warn(name, error.to_string(), format!("is it agentpool that listens at {at}?"))
        }
    }
}

fn troubles(health: &HealthView) -> String {
    let mut troubles = Vec::new();
    if health.database_ms.is_none() {
        troubles.push("the database cannot be written".to_owned());
    }
    if health.listener != "listening" {
        troubles.push(format!("listener: {}", health.listener));
    }
    let bad = |state: &str| matches!(state, "down" | "circuit_open");
    let backends = health.backends.iter().filter(|(_, state)| bad(state));
    troubles.extend(backends.map(|(agent, state)| format!("{agent} is {state}")));
    if troubles.is_empty() { "it does not say why".to_owned() } else { troubles.join(", ") }
}
