//! Puts the layers on top of each other and says of every mistake which layer it is in. Decides no default of a table.

use super::agents::{self, Origins};
use super::{
    AgentConfig, Config, ConfigError, HANDS_MAX, Loaded, LogFormat, PoolConfig, TlsFiles, data_dir_default,
};
use figment::error::Kind;
use figment::providers::{Env, Format, Serialized, Toml};
use figment::value::{Dict, Value};
use figment::{Figment, Metadata, Profile, Provider};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use tracing_subscriber::EnvFilter;

/// Before every variable of ours.
const PREFIX: &str = "AGENTPOOL_";

/// Variables with our prefix that are no configuration keys.
const OTHER_VARIABLES: [&str; 6] = ["config", "token", "token_file", "url", "pg_bin", "mark"];

/// Where configuration and data are looked for.
#[derive(clap::Args, Clone, Debug, Default, Serialize)]
pub struct ConfigPlace {
    /// Read this file [default: $AGENTPOOL_CONFIG, ./agentpool.toml, then agentpool.toml in the data folder]
    #[arg(long, value_name = "FILE", help_heading = "Configuration")]
    #[serde(skip)]
    pub config: Option<PathBuf>,
    /// Keep everything in this folder [default: /var/lib/agentpool for root, else ~/.local/share/agentpool]
    #[arg(long, value_name = "DIR", help_heading = "Configuration")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data_dir: Option<PathBuf>,
}

/// The flags that overrule variables and file.
#[derive(clap::Args, Clone, Debug, Default, Serialize)]
pub struct ConfigArgs {
    /// Where things are.
    #[command(flatten)]
    #[serde(flatten)]
    pub place: ConfigPlace,
    /// Serve the API on this address, beyond this machine with TLS only [default: 127.0.0.1:7717]
    #[arg(long, value_name = "ADDR:PORT", help_heading = "Configuration")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listen: Option<String>,
    /// Offer TLS with this certificate chain, in PEM; needs --tls-key
    #[arg(long, value_name = "FILE", help_heading = "Configuration")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_cert: Option<PathBuf>,
    /// The key of the certificate, in PEM
    #[arg(long, value_name = "FILE", help_heading = "Configuration")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_key: Option<PathBuf>,
    /// A proxy with TLS stands before the API: it may listen beyond this machine
    #[arg(long, help_heading = "Configuration")]
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub behind_proxy: bool,
    /// Use this Postgres [default: $DATABASE_URL, else a private one in the data folder]
    #[arg(long, value_name = "URL", help_heading = "Configuration")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub database_url: Option<String>,
    /// The way to the same Postgres around a connection pooler
    #[arg(long, value_name = "URL", help_heading = "Configuration")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub database_direct_url: Option<String>,
    /// Turns at once [default: 8 or twice the cores, whichever is less]
    #[arg(long, value_name = "N", help_heading = "Configuration")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hands: Option<u16>,
    /// How long running turns may go on once a drain was asked, in seconds [default: 30]
    #[arg(long = "drain-timeout", value_name = "SECONDS", help_heading = "Configuration")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drain_timeout_secs: Option<u64>,
    /// What to log, as in RUST_LOG [default: info]
    #[arg(long, value_name = "FILTER", help_heading = "Configuration")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log: Option<String>,
    /// How to write the log [default: text]
    #[arg(long, value_name = "FORMAT", help_heading = "Configuration")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_format: Option<LogFormat>,
}

/// The keys as a source may have them: none has to.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Keys {
    data_dir: Option<PathBuf>,
    listen: Option<String>,
    tls_cert: Option<PathBuf>,
    tls_key: Option<PathBuf>,
    behind_proxy: bool,
    hosts: Vec<String>,
    database_url: Option<String>,
    database_direct_url: Option<String>,
    hands: Option<u16>,
    poll_secs: Option<f64>,
    drain_timeout_secs: Option<u64>,
    events_days: Option<u16>,
    pool: PoolConfig,
    log: Option<String>,
    log_format: LogFormat,
    agents: Option<BTreeMap<String, AgentConfig>>,
}

/// A layer with a name that people know.
struct Named<P>(&'static str, P);

const FLAGS: &str = "flags";

/// Variables without our prefix that many programs share, and the keys that they set.
const SHARED_VARIABLES: [(&str, &str); 2] = [("DATABASE_URL", "database_url"), ("RUST_LOG", "log")];

impl<P: Provider> Provider for Named<P> {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.0)
    }

    fn data(&self) -> Result<figment::value::Map<Profile, Dict>, figment::Error> {
        self.1.data()
    }
}

pub(super) fn load(args: &ConfigArgs) -> Result<Loaded, ConfigError> {
    let file = find_file(&args.place)?;
    let mut figment = Figment::new();
    if let Some(path) = &file {
        check_syntax(path)?;
        figment = figment.merge(Toml::file_exact(path));
    }
    for (variable, key) in SHARED_VARIABLES {
        let value = Env::raw().only(&[variable]).map(move |_| key.into());
        figment = figment.merge(Named(variable, value));
    }
    let figment = figment
        .merge(Env::prefixed(PREFIX).ignore(&OTHER_VARIABLES).split("__"))
        .merge(Named(FLAGS, Serialized::defaults(args)));
    let keys = figment.extract_lossy::<Keys>().map_err(|error| explain(&error, &figment))?;
    let relative_to = file.as_deref().and_then(Path::parent).map(Path::to_owned).unwrap_or_default();
    let config = resolve(keys, &figment, &relative_to)?;
    Ok(Loaded { config, origins: origins(&figment), file })
}

/// A file that was named must be there; the others may.
fn find_file(place: &ConfigPlace) -> Result<Option<PathBuf>, ConfigError> {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(named) = place.config.clone().or_else(|| variable("AGENTPOOL_CONFIG")) {
        return absolute(&named).map(Some);
    }
    let here = absolute(Path::new("agentpool.toml"))?;
    if here.is_file() {
        return Ok(Some(here));
    }
    let data_dir = place.data_dir.clone().or_else(|| variable("AGENTPOOL_DATA_DIR"));
    let data_dir = data_dir.map_or_else(data_dir_default, |dir| absolute(&dir))?;
    Ok(Some(data_dir.join("agentpool.toml")).filter(|file| file.is_file()))
}

fn absolute(path: &Path) -> Result<PathBuf, ConfigError> {
    std::path::absolute(path).map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })
}

/// The parser quotes the line that it stumbles over, which may hold a key: only place and reason are kept.
fn check_syntax(path: &Path) -> Result<(), ConfigError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
    let Err(error) = Toml::from_str::<Dict>(&text) else { return Ok(()) };
    let place = error.span().map(|span| text[..span.start.min(text.len())].lines().count().max(1));
    let place = place.map(|line| format!("line {line}: ")).unwrap_or_default();
    Err(ConfigError::Syntax { path: path.to_owned(), problem: format!("{place}{}", error.message()) })
}

/// Fills in defaults and checks what types cannot.
fn resolve(keys: Keys, figment: &Figment, relative_to: &Path) -> Result<Config, ConfigError> {
    let refuse = |key: &str, problem: String| {
        Err(ConfigError::Invalid { key: key.to_owned(), origin: origin_of(figment, key), problem })
    };
    let data_dir = match keys.data_dir {
        Some(dir) if came_from_file(figment, "data_dir") => relative_to.join(dir),
        Some(dir) => absolute(&dir)?,
        None => data_dir_default()?,
    };
    let mut config = Config::new(data_dir);
    config.tls = match (keys.tls_cert, keys.tls_key) {
        (None, None) => None,
        (Some(certificate), Some(key)) => {
            let place = |path: PathBuf, name| match came_from_file(figment, name) {
                true => Ok(relative_to.join(path)),
                false => absolute(&path),
            };
            Some(TlsFiles { certificate: place(certificate, "tls_cert")?, key: place(key, "tls_key")? })
        }
        (Some(_), None) => return refuse("tls_cert", "it has a key: set tls_key too".to_owned()),
        (None, Some(_)) => {
            return refuse("tls_key", "it is the key of a certificate: set tls_cert too".to_owned());
        }
    };
    if let Some(listen) = keys.listen {
        match address(&listen, keys.behind_proxy || config.tls.is_some()) {
            Ok(addr) => config.listen = addr,
            Err(problem) => return refuse("listen", problem),
        }
    }
    if let Some(bad) = keys.hosts.iter().find(|host| host.is_empty() || host.contains(['/', ':', ' '])) {
        return refuse(
            "hosts",
            format!("{bad:?} is no host: write the name alone, without scheme, port and path"),
        );
    }
    (config.behind_proxy, config.hosts) = (keys.behind_proxy, keys.hosts);
    for (key, url) in
        [("database_url", &keys.database_url), ("database_direct_url", &keys.database_direct_url)]
    {
        if url.as_ref().is_some_and(|url| url.parse::<tokio_postgres::Config>().is_err()) {
            let problem =
                "this is no connection string: write it as postgres://user:password@host:5432/database";
            return refuse(key, problem.to_owned());
        }
    }
    config.database_url = keys.database_url.filter(|url| !url.is_empty());
    config.database_direct_url = keys.database_direct_url.filter(|url| !url.is_empty());
    if config.database_direct_url.is_some() && config.database_url.is_none() {
        let problem =
            "it is the way around the pooler that database_url names: set database_url too, or only that";
        return refuse("database_direct_url", problem.to_owned());
    }
    config.hands = keys.hands.unwrap_or(config.hands);
    config.poll_secs = keys.poll_secs.unwrap_or(config.poll_secs);
    config.drain_timeout_secs = keys.drain_timeout_secs.unwrap_or(config.drain_timeout_secs);
    config.events_days = keys.events_days.unwrap_or(config.events_days);
    config.pool = keys.pool.resolved();
    config.log = keys.log.unwrap_or(config.log);
    config.log_format = keys.log_format;
    if EnvFilter::try_new(&config.log).is_err() {
        return refuse(
            "log",
            format!("{:?} is no log filter: write a level, or target=level pairs", config.log),
        );
    }
    if let Some((key, problem)) = first_out_of_range(&config) {
        return refuse(key, problem);
    }
    config.agents = match keys.agents {
        Some(agents) => agents::named(agents, figment, relative_to)?,
        None => agents::probed(&config.data_dir),
    };
    Ok(config)
}

/// The address, or what is wrong with it.
fn address(listen: &str, encrypted: bool) -> Result<SocketAddr, String> {
    match listen.parse::<SocketAddr>() {
        Ok(addr) if addr.ip().is_loopback() || encrypted => Ok(addr),
        Ok(addr) => Err(format!(
            "{addr} can be reached from outside, and tokens would cross the network unencrypted: give --tls-cert and --tls-key, \
             or put a proxy with TLS before it and say so with --behind-proxy, or use 127.0.0.1:{}",
            addr.port()
        )),
        Err(_) => Err(format!("{listen:?} is no address: write it as 127.0.0.1:7717")),
    }
}

fn first_out_of_range(config: &Config) -> Option<(&'static str, String)> {
    let checks = [
        ("hands", (1..=HANDS_MAX).contains(&config.hands), format!("use 1 to {HANDS_MAX}")),
        ("poll_secs", (0.05..=3600.0).contains(&config.poll_secs), "use 0.05 to 3600 seconds".to_owned()),
        ("drain_timeout_secs", config.drain_timeout_secs <= 86_400, "use 0 to 86400 seconds".to_owned()),
        ("pool.idle_ttl_secs", config.pool.idle_ttl_secs > 0, "use 1 second or more".to_owned()),
        ("pool.live_max", config.pool.live_max > 0, "use 1 or more".to_owned()),
    ];
    checks.into_iter().find(|(_, fine, _)| !fine).map(|(key, _, problem)| (key, problem))
}

impl Origins for Figment {
    fn is_given(&self, key: &str) -> bool {
        self.find_value(key).is_ok()
    }

    fn refuse(&self, key: String, problem: String) -> ConfigError {
        ConfigError::Invalid { origin: origin_of(self, &key), key, problem }
    }
}

fn explain(error: &figment::Error, figment: &Figment) -> ConfigError {
    let key = error.path.join(".");
    let origin = origin_of(figment, &key);
    if let Kind::UnknownField(_, known) = &error.kind {
        return ConfigError::UnknownKey { origin, key, known: known.join(", ") };
    }
    // What was found is only told where it cannot be a secret.
    let problem = match &error.kind {
        Kind::InvalidType(found, expected) | Kind::InvalidValue(found, expected) if !is_secret(&key) => {
            format!("expected {expected}, found {found}")
        }
        Kind::InvalidType(_, expected) | Kind::InvalidValue(_, expected) => format!("expected {expected}"),
        Kind::UnknownVariant(found, known) => format!("there is no {found:?} here: use {}", known.join(", ")),
        other => other.to_string(),
    };
    ConfigError::Invalid { key, origin, problem }
}

fn is_secret(key: &str) -> bool {
    key.starts_with("database") || matches!(key.split('.').nth(2), Some("env" | "mcp_servers"))
}

/// The full key of every value that some source has, and that source.
fn origins(figment: &Figment) -> BTreeMap<String, String> {
    let mut origins = BTreeMap::new();
    for key in Keys::NAMES {
        if let Ok(value) = figment.find_value(key) {
            leaves(figment, key.to_owned(), &value, &mut origins);
        }
    }
    origins
}

fn leaves(figment: &Figment, key: String, value: &Value, into: &mut BTreeMap<String, String>) {
    match value {
        Value::Dict(_, fields) if !fields.is_empty() => {
            for (field, value) in fields {
                leaves(figment, format!("{key}.{field}"), value, into);
            }
        }
        leaf => {
            let origin = figment.get_metadata(leaf.tag()).map(|metadata| in_person(metadata, &key));
            into.insert(key, origin.unwrap_or_else(|| "default".to_owned()));
        }
    }
}

impl Keys {
    const NAMES: [&str; 16] = [
        "data_dir",
        "listen",
        "tls_cert",
        "tls_key",
        "behind_proxy",
        "hosts",
        "database_url",
        "database_direct_url",
        "hands",
        "poll_secs",
        "drain_timeout_secs",
        "events_days",
        "pool",
        "log",
        "log_format",
        "agents",
    ];
}

/// Of a key that no source has: the source of the table that it would stand in.
fn origin_of(figment: &Figment, key: &str) -> String {
    let tables = std::iter::successors(Some(key), |key| Some(key.rsplit_once('.')?.0));
    let known = tables.filter(|key| !key.is_empty()).find_map(|key| figment.find_metadata(key));
    known.map_or_else(|| "default".to_owned(), |metadata| in_person(metadata, key))
}

/// A source as its reader would point at it.
fn in_person(metadata: &Metadata, key: &str) -> String {
    match metadata.source.as_ref().and_then(figment::Source::file_path) {
        Some(path) => path.display().to_string(),
        None if metadata.name == FLAGS => format!("--{}", key.replace('_', "-")),
        None if SHARED_VARIABLES.iter().any(|(name, _)| metadata.name == *name) => metadata.name.to_string(),
        None => format!("{PREFIX}{}", key.to_ascii_uppercase().replace('.', "__")),
    }
}

fn came_from_file(figment: &Figment, key: &str) -> bool {
    figment
        .find_metadata(key)
        .and_then(|metadata| metadata.source.as_ref())
        .is_some_and(|source| source.file_path().is_some())
}
