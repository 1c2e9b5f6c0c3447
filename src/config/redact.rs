//! The configuration as it may be shown. Nothing leaves here that lets somebody in.

use super::{AgentConfig, Config};
use serde_json::{Map, Value, json};
use tokio_postgres::config::Host;

/// What stands in the place of a secret.
const HIDDEN: &str = "***";

pub(super) fn config(config: &Config) -> Value {
    let agents: Map<String, Value> =
        config.agents.iter().map(|(name, agent)| (name.to_string(), redacted_agent(agent))).collect();
    json!({
        "data_dir": config.data_dir,
        "listen": config.listen,
        "tls_cert": config.tls.as_ref().map(|tls| &tls.certificate),
        "tls_key": config.tls.as_ref().map(|tls| &tls.key),
        "behind_proxy": config.behind_proxy,
        "hosts": config.hosts,
        "database_url": config.database_url.as_deref().map(database_url),
        "database_direct_url": config.database_direct_url.as_deref().map(database_url),
        "hands": config.hands,
        "poll_secs": config.poll_secs,
        "drain_timeout_secs": config.drain_timeout_secs,
        "events_days": config.events_days,
        "pool": config.pool,
        "log": config.log,
        "log_format": config.log_format,
        "agents": agents,
    })
}

fn redacted_agent(agent: &AgentConfig) -> Value {
    let mut agent = agent.clone();
    let servers = agent.mcp_servers.iter_mut().flat_map(|server| {
        server.url = server.url.take().map(|url| address(&url));
        server.env.values_mut().chain(server.headers.values_mut())
    });
    for value in agent.env.values_mut().chain(servers) {
        HIDDEN.clone_into(value);
    }
    json!(agent)
}

/// Without the user before its host and the query behind its path, where keys are put.
fn address(url: &str) -> String {
    let (path, query) = url.split_once('?').map_or((url, ""), |(path, _)| (path, "?***"));
    let (scheme, rest) = path.split_once("://").unwrap_or(("", path));
    let (host, path) =
        rest.split_once('/').map_or((rest, String::new()), |(host, path)| (host, format!("/{path}")));
    let host = host.rsplit_once('@').map_or(host.to_owned(), |(_, host)| format!("{HIDDEN}@{host}"));
    format!("{scheme}://{host}{path}{query}")
}

/// Rebuilt from what was understood rather than cut out of the text: what is not understood is not shown.
pub(super) fn database_url(url: &str) -> String {
    let Ok(config) = url.parse::<tokio_postgres::Config>() else { return HIDDEN.to_owned() };
    let password = if config.get_password().is_some() { ":***" } else { "" };
    let user = config.get_user().map(|user| format!("{user}{password}@")).unwrap_or_default();
    let ports = config.get_ports();
    let hosts = config.get_hosts().iter().enumerate().map(|(n, host)| {
        let port = ports.get(n).or(ports.first()).map(|port| format!(":{port}")).unwrap_or_default();
        match host {
            Host::Tcp(name) => format!("{name}{port}"),
            Host::Unix(folder) => format!("{}{port}", folder.display()),
        }
    });
    let hosts = hosts.collect::<Vec<_>>().join(",");
    format!("postgres://{user}{hosts}/{}", config.get_dbname().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_password_is_shown_however_the_url_is_written() {
        for url in [
            "postgres://ann:s3cret@db:6543/work?application_name=x",
            "postgres://ann@db:6543/work?password=s3cret",
            "host=db port=6543 user=ann password=s3cret dbname=work",
        ] {
            assert_eq!(database_url(url), "postgres://ann:***@db:6543/work", "{url}");
        }
        assert_eq!(database_url("postgres://s3cret:s3cret:s3cret@[/"), HIDDEN);
        assert_eq!(database_url("postgres:///work?host=/run/pg&user=ann"), "postgres://ann@/run/pg/work");
    }

    #[test]
    fn variables_of_agents_are_named_and_not_shown() {
        let mut whole = Config::new("/data".into());
        let mut agent = AgentConfig::default();
        agent.env.insert("KEY".into(), "s3cret".into());
        agent.mcp_servers = serde_json::from_value(json!([
            {"name": "a", "command": "x", "env": {"KEY": "s3cret"}},
            {"name": "b", "url": "https://s3cret:s3cret@host:1/mcp?key=s3cret", "headers": {"KEY": "s3cret"}},
        ]))
        .unwrap();
        whole.agents.insert(crate::domain::agent::AgentName::new("a").unwrap(), agent);
        whole.database_url = Some("postgres://ann:s3cret@db/work".into());
        let shown = config(&whole);
        assert_eq!(shown["agents"]["a"]["env"]["KEY"], HIDDEN);
        assert_eq!(shown["agents"]["a"]["mcp_servers"][1]["url"], "https://***@host:1/mcp?***");
        assert_eq!(address("http://host"), "http://host");
        assert!(!shown.to_string().contains("s3cret"), "{shown}");
    }
}
