//! The project as it is now: found, named, and asked for its HEAD. Only reads.

use super::ProjectSource;
use super::error::WorktreeError;
use super::git::{Git, Setup};
use crate::domain::clone_url::check_clone_url;
use sha2::{Digest, Sha256};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A project that can be begun from.
#[derive(Clone, Debug)]
pub(super) struct Project {
    /// Names its stores: a hash of the repository's identity, so that two ways to it share them.
    pub key: String,
    /// What git fetches from.
    pub remote: String,
    /// The repository on this machine, when it is on this machine.
    pub local: Option<LocalRepository>,
    /// What a reader should know.
    pub notices: Vec<String>,
}

/// A repository on this machine.
#[derive(Clone, Debug)]
pub(super) struct LocalRepository {
    /// Its git directory (of the linked worktree, when it is one).
    pub git_dir: PathBuf,
    /// What its worktrees share.
    pub common_dir: PathBuf,
    /// Its files; none when bare.
    pub top: Option<PathBuf>,
    /// The commit of its HEAD.
    pub head: String,
    /// `sha1` or `sha256`.
    pub object_format: String,
    /// Who owns it.
    pub owner: (u32, u32),
}

/// Finds the project.
///
/// # Errors
/// [`WorktreeError::ProjectUnusable`], saying what to do.
pub(super) async fn find(setup: &Setup, source: &ProjectSource) -> Result<Project, WorktreeError> {
    match source {
        ProjectSource::Path(path) => find_local(setup, path).await,
        ProjectSource::Url(url) => {
            check_clone_url(url).map_err(|bad| WorktreeError::ProjectUnusable(bad.to_string()))?;
            Ok(Project { key: key(url.as_bytes()), remote: url.clone(), local: None, notices: Vec::new() })
        }
    }
}

async fn find_local(setup: &Setup, path: &Path) -> Result<Project, WorktreeError> {
    let unusable = |why: String| WorktreeError::ProjectUnusable(format!("{}: {why}", path.display()));
    if !path.is_absolute() {
        return Err(unusable("name it by an absolute path".into()));
    }
    let folder = std::fs::canonicalize(path).map_err(|err| unusable(format!("{err}; check the path")))?;
    if !folder.is_dir() {
        return Err(unusable("is no folder; name the repository's folder".into()));
    }
    let found = Git::new(setup, "find the repository")
        .from(&folder)
        .args(["rev-parse", "--path-format=absolute", "--git-dir", "--git-common-dir"])
        .args(["--is-bare-repository", "--show-object-format", "--show-prefix"])
        .outcome()
        .await?;
    let text = found.text();
    let mut lines = text.lines();
    let (Some(git_dir), Some(common), Some(bare), Some(format)) =
        (lines.next(), lines.next(), lines.next(), lines.next())
    else {
        return Err(unusable(format!(
            "is no git repository that can be read ({}); run git init there, commit, and check who may read it",
            found.detail
        )));
    };
    let prefix = lines.next().unwrap_or_default();
    let head = Git::new(setup, "read the project's HEAD")
        .dir(Path::new(git_dir))
        .args(["rev-parse", "-q", "--verify", "HEAD^{commit}"])
        .outcome()
        .await?;
    if head.code != 0 {
        return Err(unusable("its HEAD has no commit yet; make a first commit".into()));
    }
    let mut top = folder.clone();
    Path::new(prefix).components().for_each(|_| {
        top.pop();
    });
    let mut notices = Vec::new();
    if !prefix.is_empty() {
        notices.push(format!(
            "{} is a folder of the repository {}: the worktree holds the whole repository",
            path.display(),
            top.display()
        ));
    }
    let common_dir = std::fs::canonicalize(common).map_err(WorktreeError::io(Path::new(common)))?;
    let meta = std::fs::metadata(&common_dir).map_err(WorktreeError::io(&common_dir))?;
    let key = key(common_dir.as_os_str().as_encoded_bytes());
    let local = LocalRepository {
        git_dir: PathBuf::from(git_dir),
        common_dir,
        top: (bare == "false").then_some(top),
        head: head.text(),
        object_format: format.to_owned(),
        owner: (meta.uid(), meta.gid()),
    };
    Ok(Project { key, remote: git_dir.to_owned(), local: Some(local), notices })
}

/// The owner to write as, when we are root and the repository is another account's: what we add must stay theirs, and
/// nothing of theirs may run as root.
pub(super) fn write_as(repository: &LocalRepository) -> Option<(u32, u32)> {
    (nix::unistd::geteuid().is_root() && repository.owner.0 != 0).then_some(repository.owner)
}

fn key(identity: &[u8]) -> String {
    Sha256::digest(identity).iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

/// The URL without a name and a password, for places that agents read.
pub(super) fn without_credentials(url: &str) -> String {
    for scheme in ["https://", "http://"] {
        if let Some(rest) = url.strip_prefix(scheme) {
            let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
            let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
            return format!("{scheme}{host}/{path}");
        }
    }
    url.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_in_a_url_does_not_reach_the_hub() {
        assert_eq!(without_credentials("https://me:pw@h/x.git"), "https://h/x.git");
        assert_eq!(without_credentials("git@h:x"), "git@h:x");
    }
}
