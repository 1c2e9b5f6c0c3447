//! Looks for programs of Postgres that are on this machine already. Installs nothing.

use super::data;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The oldest major version that agentpool's SQL runs on.
pub const MAJOR_MIN: u32 = 15;

/// A folder with `postgres` and `initdb` in it, and their major version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PostgresBinaries {
    /// The folder.
    pub dir: PathBuf,
    /// `postgres --version` says so.
    pub major: u32,
}

impl PostgresBinaries {
    /// The programs of that folder, when they are there, run, and are [`MAJOR_MIN`] or newer.
    pub fn of(dir: &Path) -> Option<Self> {
        let has = |name: &str| dir.join(name).is_file();
        let major = (has("initdb") && has("postgres")).then(|| major_of(&dir.join("postgres"))).flatten()?;
        (major >= MAJOR_MIN).then(|| Self { dir: dir.to_owned(), major })
    }
}

/// Looks in `AGENTPOOL_PG_BIN`, `pg_config --bindir`, `PATH`, `/usr/lib/postgresql/*/bin` (newest first) and among the
/// packages installed in the data folder. Takes the first; where the data folder holds a cluster already, the first of
/// its major version before all others. Runs a few short programs: call it where blocking is allowed.
pub fn find_binaries(data_dir: &Path) -> Option<PostgresBinaries> {
    let mut found = places(data_dir).into_iter().filter_map(|dir| PostgresBinaries::of(&dir));
    let Some(cluster) = data::major_of_cluster(data_dir) else { return found.next() };
    let all = found.collect::<Vec<_>>();
    all.iter().find(|bins| bins.major == cluster).or(all.first()).cloned()
}

fn places(data_dir: &Path) -> Vec<PathBuf> {
    let mut places = Vec::new();
    places.extend(env::var_os("AGENTPOOL_PG_BIN").map(PathBuf::from));
    places.extend(output_of(Command::new("pg_config").arg("--bindir")).map(|dir| dir.trim().into()));
    places.extend(env::var_os("PATH").iter().flat_map(env::split_paths));
    places.extend(debian_folders());
    places.extend(
        crate::install::installed(crate::install::Package::EmbeddedPostgres, data_dir)
            .map(|installed| installed.program),
    );
    places
}

/// `/usr/lib/postgresql/<major>/bin`, newest first.
fn debian_folders() -> Vec<PathBuf> {
    let mut majors = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok())
        .collect::<Vec<_>>();
    majors.sort_unstable_by(|a, b| b.cmp(a));
    majors.into_iter().map(|major| format!("/usr/lib/postgresql/{major}/bin").into()).collect()
}

fn major_of(postgres: &Path) -> Option<u32> {
    parse_version(&output_of(Command::new(postgres).arg("--version"))?)
}

fn output_of(command: &mut Command) -> Option<String> {
    let output = command.stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8(output.stdout).ok()).flatten()
}

/// `postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)` and `postgres (PostgreSQL) 18beta1` alike.
fn parse_version(text: &str) -> Option<u32> {
    let version = text.split_once("(PostgreSQL) ")?.1;
    let digits = version.find(|c: char| !c.is_ascii_digit()).unwrap_or(version.len());
    version[..digits].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_what_postgres_says() {
        assert_eq!(parse_version("postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)\n"), Some(15));
        assert_eq!(parse_version("postgres (PostgreSQL) 18beta1"), Some(18));
        assert_eq!(parse_version("postgres (EnterpriseDB) 15.1"), None);
    }
}
