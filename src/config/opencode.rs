//! Finds the real opencode program on this machine. Never runs what it finds: npm puts a launcher on PATH that starts the
//! program as its child, where our signals and our parentage do not reach.

use crate::install::{self, Package};
use std::env;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// The pinned opencode of the data folder, else the one on `PATH`. The program itself, never a launcher.
pub fn find_opencode(data_dir: &Path) -> Option<PathBuf> {
    install::installed(Package::Opencode, data_dir)
        .map(|installed| installed.program)
        .or_else(|| real_program(Path::new("opencode")))
}

/// The program behind a path or a name on `PATH`: links followed, and of npm's launcher the build that it would start.
/// None when there is no such file, or only a launcher without its build.
pub(super) fn real_program(command: &Path) -> Option<PathBuf> {
    let named = command.components().count() == 1 && !command.is_absolute();
    let found = if named { on_path(command)? } else { command.to_owned() };
    let program = fs::canonicalize(found).ok().filter(|path| is_executable(path))?;
    match package_of(&program) {
        Some(package) => build_beside(package).or_else(|| is_native(&program).then_some(program)),
        None => Some(program),
    }
}

fn on_path(name: &Path) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|folder| folder.join(name)).find(|file| is_executable(file))
}

fn is_executable(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// The folder of the `opencode-ai` package that the file belongs to.
fn package_of(program: &Path) -> Option<&Path> {
    program.ancestors().find(|folder| folder.ends_with("node_modules/opencode-ai"))
}

/// npm puts the builds beside the package, or below it when it was installed globally.
fn build_beside(package: &Path) -> Option<PathBuf> {
    let modules = [package.parent().map(Path::to_owned), Some(package.join("node_modules"))];
    modules.into_iter().flatten().find_map(|modules| {
        builds()
            .into_iter()
            .map(|build| modules.join(build).join("bin/opencode"))
            .find(|file| is_executable(file))
    })
}

/// Names of the builds for this machine, best first, as the launcher prefers them.
fn builds() -> Vec<String> {
    let cpu = match env::consts::ARCH {
        "x86_64" => "x64",
        "aarch64" => "arm64",
        _ => return Vec::new(),
    };
    let order = if has_avx2() { ["", "-baseline"] } else { ["-baseline", ""] };
    let libc = if cfg!(target_env = "musl") { ["-musl", ""] } else { ["", "-musl"] };
    libc.iter()
        .flat_map(|libc| order.iter().map(move |kind| format!("opencode-linux-{cpu}{kind}{libc}")))
        .collect()
}

fn has_avx2() -> bool {
    #[cfg(target_arch = "x86_64")]
    return std::arch::is_x86_feature_detected!("avx2");
    #[cfg(not(target_arch = "x86_64"))]
    false
}

fn is_native(program: &Path) -> bool {
    let mut magic = [0; 4];
    File::open(program).and_then(|mut file| file.read_exact(&mut magic)).is_ok() && magic == *b"\x7fELF"
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn executable(path: &Path, content: &str) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    #[test]
    fn a_launcher_is_resolved_to_the_program_behind_it() {
        let folder = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(folder.path()).unwrap();
        let launcher = root.join("lib/node_modules/opencode-ai/bin/opencode");
        executable(&launcher, "#!/usr/bin/env node\n");
        let link = root.join("bin/opencode");
        fs::create_dir_all(link.parent().unwrap()).unwrap();
        symlink(&launcher, &link).unwrap();
        assert_eq!(real_program(&link), None, "a launcher without its build is never run");

        for modules in ["lib/node_modules/opencode-ai/node_modules", "lib/node_modules"] {
            let build = root.join(modules).join(&builds()[0]).join("bin/opencode");
            executable(&build, "\x7fELF");
            assert_eq!(real_program(&link), Some(build));
        }
    }

    #[test]
    fn a_program_of_its_own_is_taken_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let program = fs::canonicalize(folder.path()).unwrap().join("opencode");
        assert_eq!(real_program(&program), None);
        executable(&program, "#!/bin/sh\n");
        assert_eq!(real_program(&program), Some(program.clone()));
        fs::set_permissions(&program, fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(real_program(&program), None, "not executable");
    }
}
