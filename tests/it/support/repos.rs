//! Real repositories for tests: a user's project, and the git of an agent in its worktree.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use tempfile::TempDir;

/// A folder that holds a user's repository (`user`) and a data folder (`data`).
pub struct Repos {
    pub dir: TempDir,
    pub user: PathBuf,
    pub data: PathBuf,
}

impl Repos {
    /// A repository with two files and one commit.
    pub fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let root = dir.path().canonicalize().expect("its real path");
        let (user, data) = (root.join("user"), root.join("data"));
        std::fs::create_dir(&user).expect("a folder");
        git(&user, &["init", "-q", "-b", "main"]);
        git(&user, &["config", "user.name", "A User"]);
        git(&user, &["config", "user.email", "user@example.org"]);
        write(&user, "a.txt", "one\ntwo\nthree\n");
        write(&user, "src/b.txt", "b\n");
        write(&user, ".gitignore", "ignored/\n*.log\n");
        commit_all(&user, "first");
        Self { dir, user, data }
    }

    /// The same, with `count` more files in folders of fifty.
    pub fn with_files(count: usize) -> Self {
        let repos = Self::new();
        for n in 0..count {
            write(&repos.user, &format!("many/{}/{n}.txt", n / 50), &format!("file {n}\n{n}\n"));
        }
        commit_all(&repos.user, "many");
        repos
    }
}

/// git as a person or an agent runs it: with the repository's own configuration and hooks.
pub fn try_git(folder: &Path, args: &[&str]) -> Output {
    let mut command = Command::new("git");
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("GIT_")) {
        command.env_remove(name);
    }
    command
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .args(["-c", "safe.directory=*", "-c", "user.name=Agent", "-c", "user.email=agent@example.org"])
        .current_dir(folder)
        .args(args)
        .output()
        .expect("git runs")
}

/// As [`try_git`]; its output, and it must succeed.
pub fn git(folder: &Path, args: &[&str]) -> String {
    let out = try_git(folder, args);
    assert!(out.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8_lossy(&out.stdout).trim_end().to_owned()
}

pub fn commit_all(folder: &Path, message: &str) -> String {
    git(folder, &["add", "-A"]);
    git(folder, &["commit", "-q", "--no-verify", "-m", message]);
    git(folder, &["rev-parse", "HEAD"])
}

pub fn write(folder: &Path, name: &str, text: &str) {
    let path = folder.join(name);
    std::fs::create_dir_all(path.parent().expect("a parent")).expect("folders");
    std::fs::write(path, text).expect("a file");
}

pub fn read(folder: &Path, name: &str) -> Option<String> {
    std::fs::read_to_string(folder.join(name)).ok()
}

/// Every file below a folder: path, mode and content. Equal maps are byte-identical folders.
pub fn picture(folder: &Path) -> BTreeMap<PathBuf, (u32, Vec<u8>)> {
    let mut seen = BTreeMap::new();
    let mut open = vec![folder.to_path_buf()];
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(&dir).expect("a folder") {
            let path = entry.expect("an entry").path();
            let meta = std::fs::symlink_metadata(&path).expect("metadata");
            let content = if meta.is_dir() {
                open.push(path.clone());
                Vec::new()
            } else if meta.is_symlink() {
                std::fs::read_link(&path).expect("a link").into_os_string().into_encoded_bytes()
            } else {
                std::fs::read(&path).expect("a file")
            };
            seen.insert(path, (meta.permissions().mode(), content));
        }
    }
    seen
}

/// The files of a worktree without its `.git`.
pub fn files(folder: &Path) -> BTreeMap<PathBuf, (u32, Vec<u8>)> {
    let mut all = picture(folder);
    all.remove(&folder.join(".git"));
    all
}
