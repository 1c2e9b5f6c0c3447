//! One run of npm: its environment, its end, and what its complaints mean.

use super::{InstallError, Progress, tree};
use crate::domain::text;
use crate::process::Environment;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use std::io;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::process::Command;
use tokio::time::MissedTickBehavior;

/// Between two looks at how much has come.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// How much of npm's complaints is kept, in bytes.
const OUTPUT_BYTES_MAX: usize = 16 << 10;

/// Runs one `npm install` of packages into an empty folder.
pub(super) async fn install(
    specs: &[String],
    prefix: &Path,
    progress: &dyn Progress,
) -> Result<(), InstallError> {
    let mut child = command(specs, prefix).spawn().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => InstallError::NpmMissing,
        _ => InstallError::Npm(error.to_string()),
    })?;
    let group = Group(child.id());
    let mut complaints = child.stderr.take().expect("it was asked for as a pipe");
    let mut output = Vec::new();
    let mut looks = tokio::time::interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut buffer = vec![0; 4 << 10];
    // The end of file comes with npm's end: it starts nothing that outlives it when scripts are off.
    loop {
        tokio::select! {
            read = complaints.read(&mut buffer) => match read {
                Ok(length @ 1..) => keep_tail(&mut output, &buffer[..length]),
                Ok(_) | Err(_) => break,
            },
            _ = looks.tick() => {
                let folder = prefix.to_owned();
                let size = tokio::task::spawn_blocking(move || tree::size(&folder)).await;
                progress.bytes(size.unwrap_or_default());
            }
        }
    }
    let status = child.wait().await.map_err(|error| InstallError::Npm(error.to_string()))?;
    group.ended();
    if status.success() {
        Ok(())
    } else {
        Err(classify(&specs.join(" "), prefix, &text::clean_bytes(&output)))
    }
}

fn command(specs: &[String], prefix: &Path) -> Command {
    let env = Environment::allow_listed();
    // npm's own settings (registry, cache) are the user's business and no secrets of ours.
    let settings = std::env::vars_os().filter(|(name, _)| {
        name.to_str().is_some_and(|name| name.to_ascii_lowercase().starts_with("npm_config_"))
    });
    let mut command = Command::new("npm");
    command
        .args(["install", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error", "--prefix"])
        .arg(prefix)
        .args(specs)
        .env_clear()
        .envs(env.vars())
        .envs(settings)
        .current_dir(prefix)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true);
    command
}

/// npm and what it started; killed when the installation is given up.
struct Group(Option<u32>);

impl Group {
    /// The number may belong to somebody else from now on.
    fn ended(mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(leader) = self.0 {
            let _ = killpg(Pid::from_raw(leader.cast_signed()), Signal::SIGKILL);
        }
    }
}

fn keep_tail(output: &mut Vec<u8>, more: &[u8]) {
    output.extend_from_slice(more);
    let surplus = output.len().saturating_sub(OUTPUT_BYTES_MAX);
    output.drain(..surplus);
}

/// npm names the system's or the registry's error in a line `npm error code <CODE>`.
fn classify(spec: &str, prefix: &Path, output: &str) -> InstallError {
    let code = output.lines().find_map(|line| {
        let (_, code) = line.split_once(" code ")?;
        line.starts_with("npm ").then(|| code.trim())
    });
    let output = output.trim().to_owned();
    match code {
        Some("ENOSPC" | "EDQUOT") => InstallError::DiskFull(prefix.to_owned()),
        Some("E404" | "ETARGET" | "ENOVERSIONS") => {
            InstallError::UnknownToRegistry { package: spec.to_owned(), output }
        }
        Some(
            "ENOTFOUND" | "EAI_AGAIN" | "ECONNREFUSED" | "ECONNRESET" | "ETIMEDOUT" | "ENETUNREACH"
            | "EHOSTUNREACH" | "ENOTCACHED" | "ERR_SOCKET_TIMEOUT" | "FETCH_ERROR",
        ) => InstallError::RegistryUnreachable(output),
        _ => InstallError::Npm(output),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_npm_complains_of_becomes_what_to_do() {
        let of = |code: &str| {
            classify("x@1", Path::new("/d"), &format!("npm error code {code}\nnpm error syscall write\n"))
        };
        assert!(matches!(of("ENOSPC"), InstallError::DiskFull(_)));
        assert!(matches!(of("ECONNREFUSED"), InstallError::RegistryUnreachable(_)));
        assert!(matches!(of("ETARGET"), InstallError::UnknownToRegistry { .. }));
        assert!(matches!(of("EACCES"), InstallError::Npm(_)));
        assert!(matches!(classify("x@1", Path::new("/d"), "boom"), InstallError::Npm(_)));
    }
}
