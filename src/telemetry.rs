//! Log lines on stderr, for people or for machines, and what is counted. Never decides what is logged, and writes to no file.

use crate::config::LogFormat;
use crate::domain::measure::{self, Kind};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use std::io::{self, IsTerminal};
use std::sync::OnceLock;
use tracing_subscriber::EnvFilter;

/// Why nothing is logged.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The filter cannot be read.
    #[error("{filter:?} is no log filter: write a level, or target=level pairs as in RUST_LOG")]
    BadFilter {
        /// As given.
        filter: String,
    },
    /// Somebody in this process logs already.
    #[error("logging was set up twice in one process")]
    Twice,
}

/// Sends everything that `filter` (in the syntax of `RUST_LOG`) lets through to stderr. Once a process.
///
/// # Errors
/// When the filter cannot be read, or when the process logs already.
pub fn init(filter: &str, format: LogFormat) -> Result<(), TelemetryError> {
    let filter = parse_filter(filter)?;
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    let done = match format {
        LogFormat::Text => lines.with_ansi(wants_colour()).try_init(),
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
    };
    done.map_err(|_| TelemetryError::Twice)
}

/// Upper ends of the buckets of durations, in seconds: from a commit to a long turn.
const BUCKETS: [f64; 13] = [0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 300.0, 1800.0];

/// What was counted in this process so far; counting begins with the first call. Nodes of one process count together.
///
/// # Panics
/// When somebody else in this process has set up a recorder.
pub fn counted() -> PrometheusHandle {
    static COUNTED: OnceLock<PrometheusHandle> = OnceLock::new();
    let begin = || {
        let recorder =
            PrometheusBuilder::new().set_buckets(&BUCKETS).expect("there are buckets").build_recorder();
        let handle = recorder.handle();
        metrics::set_global_recorder(recorder).expect("nobody else counts in this process");
        for (name, kind, help) in measure::ALL {
            match kind {
                Kind::Counter => metrics::describe_counter!(*name, *help),
                Kind::Gauge => metrics::describe_gauge!(*name, *help),
                Kind::Seconds => metrics::describe_histogram!(*name, *help),
            }
        }
        handle
    };
    COUNTED.get_or_init(begin).clone()
}

/// Colours on a terminal only, and not where NO_COLOR says no.
fn wants_colour() -> bool {
    io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

fn parse_filter(filter: &str) -> Result<EnvFilter, TelemetryError> {
    EnvFilter::try_new(filter).map_err(|_| TelemetryError::BadFilter { filter: filter.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_with_a_slip_is_refused_and_not_ignored() {
        assert!(parse_filter("info,agentpool=debug").is_ok());
        assert!(matches!(parse_filter("agentpool=loud"), Err(TelemetryError::BadFilter { .. })));
    }
}
