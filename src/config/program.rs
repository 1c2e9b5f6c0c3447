//! Finds the real programs of agents on this machine. Never runs what it finds: npm puts launchers on PATH that start the
//! program as their child, where our signals and our parentage do not reach.

use super::preset::Preset;
use crate::install::{self, Package};
use std::env;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// A program, and what has to stand before all other arguments: the script, where the program only runs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// Absolute path.
    pub path: PathBuf,
    /// Mostly none.
    pub args: Vec<OsString>,
}

/// The pinned opencode of the data folder, else the one on `PATH`. The program itself, never a launcher.
pub fn find_opencode(data_dir: &Path) -> Option<PathBuf> {
    install::installed(Package::Opencode, data_dir)
        .map(|installed| installed.program)
        .or_else(|| real_program(Path::new("opencode")))
}

/// The program of a preset: the pinned one of the data folder, else the first of its names on `PATH`.
pub(super) fn find(preset: Preset, data_dir: &Path) -> Option<Program> {
    let known = preset.known();
    let installed = known.package.and_then(|package| install::installed(package, data_dir));
    installed
        .map(|installed| Program { path: installed.program, args: installed.args })
        .or_else(|| known.names.iter().find_map(|name| resolve(Path::new(name))))
}

/// As [`real_program`]; a script for Node.js becomes Node.js with that script.
pub(super) fn resolve(command: &Path) -> Option<Program> {
    let path = real_program(command)?;
    match node_of(&path) {
        None => Some(Program { path, args: Vec::new() }),
        Some((node, mut args)) => {
            let node = if node.is_absolute() { node } else { on_path(&node)? };
            args.push(path.into_os_string());
            Some(Program { path: fs::canonicalize(node).ok()?, args })
        }
    }
}

/// The Node.js that a script asks for in its first line, with the flags there.
fn node_of(script: &Path) -> Option<(PathBuf, Vec<OsString>)> {
    let mut start = [0; 256];
    let length = File::open(script).and_then(|mut file| file.read(&mut start)).ok()?;
    let text = String::from_utf8_lossy(&start[..length]);
    let mut words = text.lines().next()?.strip_prefix("#!")?.split_whitespace().peekable();
    let mut runner = Path::new(words.next()?);
    if runner.ends_with("env") {
        words.next_if(|word| *word == "-S");
        runner = Path::new(words.next()?);
    }
    runner.ends_with("node").then(|| (runner.to_owned(), words.map(OsString::from).collect()))
}

/// An absolute path for a name on `PATH`, or for a path.
pub(super) fn absolute(command: &Path) -> Option<PathBuf> {
    if command.components().count() == 1 && !command.is_absolute() {
        return on_path(command);
    }
    std::path::absolute(command).ok().filter(|path| is_executable(path))
}

/// The program behind a path or a name on `PATH`: links followed, and of npm's launcher the build that it would start.
/// None when there is no such file, or only a launcher without its build.
pub(super) fn real_program(command: &Path) -> Option<PathBuf> {
    let named = command.components().count() == 1 && !command.is_absolute();
    let found = if named { on_path(command)? } else { command.to_owned() };
    let program = fs::canonicalize(found).ok().filter(|path| is_executable(path))?;
    match LAUNCHERS.iter().find_map(|launcher| Some((launcher, launcher.package_of(&program)?))) {
        Some((launcher, package)) => {
            launcher.build_beside(package).or_else(|| is_native(&program).then_some(program))
        }
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

/// A package whose program on PATH only starts the build for this machine.
struct Launcher {
    package: &'static str,
    /// Packages with a build, best first.
    builds: fn() -> Vec<String>,
    /// The program within one.
    program: &'static str,
}

const LAUNCHERS: [Launcher; 2] = [
    Launcher { package: "opencode-ai", builds, program: "bin/opencode" },
    Launcher { package: "@zed-industries/codex-acp", builds: codex_builds, program: "bin/codex-acp" },
];

impl Launcher {
    /// The folder of the package that the file belongs to.
    fn package_of<'a>(&self, program: &'a Path) -> Option<&'a Path> {
        let place = Path::new("node_modules").join(self.package);
        program.ancestors().find(|folder| folder.ends_with(&place))
    }

    /// npm puts the builds beside the package, or below it when it was installed globally.
    fn build_beside(&self, package: &Path) -> Option<PathBuf> {
        let depth = Path::new(self.package).components().count();
        let modules =
            [package.ancestors().nth(depth).map(Path::to_owned), Some(package.join("node_modules"))];
        modules.into_iter().flatten().find_map(|modules| {
            (self.builds)()
                .into_iter()
                .map(|build| modules.join(build).join(self.program))
                .find(|file| is_executable(file))
        })
    }
}

fn codex_builds() -> Vec<String> {
    cpu().map(|cpu| format!("@zed-industries/codex-acp-linux-{cpu}")).into_iter().collect()
}

/// The processor in npm's words.
fn cpu() -> Option<&'static str> {
    match env::consts::ARCH {
        "x86_64" => Some("x64"),
        "aarch64" => Some("arm64"),
        _ => None,
    }
}

/// Names of the builds for this machine, best first, as the launcher prefers them.
fn builds() -> Vec<String> {
    let Some(cpu) = cpu() else { return Vec::new() };
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
    fn a_launcher_of_a_scope_is_resolved_too() {
        let folder = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(folder.path()).unwrap();
        let launcher = root.join("node_modules/@zed-industries/codex-acp/bin/codex-acp.js");
        executable(&launcher, "#!/usr/bin/env node\n");
        assert_eq!(resolve(&launcher), None);
        let build = root.join("node_modules").join(&codex_builds()[0]).join("bin/codex-acp");
        executable(&build, "\x7fELF");
        assert_eq!(resolve(&launcher), Some(Program { path: build, args: Vec::new() }));
    }

    #[test]
    fn a_script_is_run_by_node_itself() {
        let folder = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(folder.path()).unwrap();
        let (node, script) = (root.join("node"), root.join("agent.js"));
        executable(&node, "\x7fELF");
        executable(&script, &format!("#!{} --no-warnings\nx", node.display()));
        let args = vec![OsString::from("--no-warnings"), script.clone().into_os_string()];
        assert_eq!(resolve(&script), Some(Program { path: node, args }));
        for (line, wanted) in [
            ("#!/usr/bin/env node", Some(0)),
            ("#!/usr/bin/env -S node --no-warnings=DEP0040", Some(1)),
            ("#!/bin/sh", None),
            ("\u{0}\u{1}", None),
        ] {
            executable(&script, &format!("{line}\nx"));
            assert_eq!(node_of(&script).map(|(_, flags)| flags.len()), wanted, "{line}");
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
