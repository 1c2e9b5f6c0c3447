//! What is measured, by the names under which `/metrics` tells it. Ids are never labels: their number has no bound.

/// How a value goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only up.
    Counter,
    /// Up and down; read when `/metrics` is asked.
    Gauge,
    /// Seconds, by buckets.
    Seconds,
}

macro_rules! measures {
    ($($constant:ident = $kind:ident $name:literal $help:literal)*) => {
        $(#[doc = $help] pub const $constant: &str = $name;)*
        /// Every one with its kind and what it says.
        pub const ALL: &[(&str, Kind, &str)] = &[$(($name, Kind::$kind, $help)),*];
    };
}

measures! {
    BUILD_INFO = Gauge "agentpool_build_info" "1, with the version as its label."
    TASKS_SUBMITTED = Counter "agentpool_tasks_submitted_total" "Tasks put in by this node's API; plain SQL is not counted."
    TASKS_FINISHED = Counter "agentpool_tasks_finished_total" "Attempts ended by this node, by the status that came of them and why they failed."
    QUEUE_DEPTH = Gauge "agentpool_task_queue_depth" "Tasks of all nodes, queued and running."
    QUEUE_OLDEST = Gauge "agentpool_task_queue_oldest_age_seconds" "Age of the oldest queued task whose time has come."
    TURN_SECONDS = Seconds "agentpool_turn_duration_seconds" "From the claim of an attempt to its end, by agent and outcome."
    FIRST_EVENT_SECONDS = Seconds "agentpool_turn_first_event_seconds" "From the prompt to the agent's first event, by agent."
    RENEW_SECONDS = Seconds "agentpool_lease_renew_duration_seconds" "One renewal of all leases of this node."
    LEASES_LOST = Counter "agentpool_lease_lost_total" "Turns of this node whose lease was gone."
    STALE_WRITES = Counter "agentpool_stale_writes_rejected_total" "Reports that came after their lease was lost and were refused."
    RECLAIMS = Counter "agentpool_reclaims_total" "Leases that this node took from lost owners."
    SLOTS = Gauge "agentpool_sessions" "Conversations that this node keeps, by state."
    AGENT_STARTS = Counter "agentpool_agent_starts_total" "Agent processes that came up since the start of this node, by agent."
    AGENT_LOST = Counter "agentpool_agent_exits_total" "Agent processes that ended without being asked to since the start of this node, by agent."
    AGENT_DOWN = Gauge "agentpool_agent_breaker_state" "1 while an agent failed to start so often that it is not tried."
    AGENT_PARKED = Gauge "agentpool_agent_parked" "1 while the limit of an agent's provider holds it up."
    AGENT_BYTES = Gauge "agentpool_agent_memory_bytes" "What all agents hold with everything that they started."
    EVICTIONS = Counter "agentpool_pool_evictions_total" "Conversations given back since the start of this node."
    LISTENING = Gauge "agentpool_listen_connected" "1 while notifications are heard."
    STREAM_READERS = Gauge "agentpool_sse_clients" "Streams that are followed."
    STREAMS_LAGGED = Counter "agentpool_sse_lagged_total" "Streams ended because their reader took nothing for too long."
    DRAINING = Gauge "agentpool_drain_state" "1 while this node lets its turns end and takes no others."
    PANICS = Counter "agentpool_panics_total" "Turns that met a defect of ours since the start of this node."
    REQUEST_SECONDS = Seconds "http_server_request_duration_seconds" "Requests by method, route and status."
    RESIDENT_BYTES = Gauge "process_resident_memory_bytes" "Resident memory of this process."
    OPEN_FDS = Gauge "process_open_fds" "Open file descriptors of this process."
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_keep_the_rules() {
        for (name, kind, help) in ALL {
            assert_eq!(*kind == Kind::Counter, name.ends_with("_total"), "{name}");
            assert!(*kind != Kind::Seconds || name.ends_with("_seconds"), "{name}");
            assert!(["agentpool_", "http_server_", "process_"].iter().any(|prefix| name.starts_with(prefix)));
            assert!(help.ends_with('.'), "{name}");
        }
    }
}
