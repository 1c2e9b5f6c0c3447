//! Which repository a submit means. Looks at the file system; runs no git.

use super::CliError;
use crate::domain::agent::PermissionRule;
use crate::wire::api::NewSession;
use clap::builder::PossibleValuesParser;
use std::path::{Path, PathBuf};

/// What a new session works on.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Project {
    /// A repository of this machine: absolute, links followed.
    Path(PathBuf),
    /// A clone URL.
    Url(String),
}

impl Project {
    /// Of what was given on the command line.
    pub(super) fn named(text: &str) -> Result<Self, CliError> {
        if is_url(text) {
            return Ok(Self::Url(text.to_owned()));
        }
        match std::fs::canonicalize(text) {
            Ok(path) if path.is_dir() => Ok(Self::Path(path)),
            _ => Err(CliError::Usage(format!(
                "there is no folder {text:?}: --project takes a repository's folder or its clone URL"
            ))),
        }
    }

    /// Of the folder that the command was called in.
    pub(super) fn around(folder: &Path) -> Result<Self, CliError> {
        let folder = std::fs::canonicalize(folder)
            .map_err(|source| CliError::File { path: folder.to_owned(), source })?;
        let repository = folder.ancestors().find(|folder| folder.join(".git").exists());
        repository.map(|path| Self::Path(path.to_owned())).ok_or_else(|| {
            CliError::Usage(format!(
                "{folder:?} is in no git repository: go into one, or name one with --project, or a session with --session"
            ))
        })
    }

    /// The request that makes a session on it.
    pub(super) fn new_session(
        self,
        title: String,
        permission: Option<String>,
    ) -> Result<NewSession, CliError> {
        let plain = NewSession { title, permission, ..NewSession::default() };
        match self {
            Self::Url(url) => Ok(NewSession { url: Some(url), ..plain }),
            Self::Path(path) => match path.into_os_string().into_string() {
                Ok(path) => Ok(NewSession { path: Some(path), ..plain }),
                Err(path) => {
                    Err(CliError::Usage(format!("{path:?} is no UTF-8, which the service cannot take")))
                }
            },
        }
    }
}

/// The words of `--permission`.
pub(super) fn policies() -> PossibleValuesParser {
    PossibleValuesParser::new(PermissionRule::ALL.map(PermissionRule::as_str))
}

/// `scheme://…`, or `user@host:path` as git takes it.
fn is_url(text: &str) -> bool {
    let before_path = text.split('/').next().unwrap_or_default();
    text.contains("://") || before_path.split_once(':').is_some_and(|(host, _)| host.contains('@'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_repository_around_a_folder_is_found_and_its_absence_told() {
        let folder = tempfile::tempdir().unwrap();
        let root = std::fs::canonicalize(folder.path()).unwrap();
        let deep = root.join("src/deep");
        std::fs::create_dir_all(&deep).unwrap();
        assert!(matches!(Project::around(&deep), Err(CliError::Usage(_))));
        std::fs::write(root.join(".git"), "gitdir: elsewhere").unwrap();
        assert_eq!(Project::around(&deep).unwrap(), Project::Path(root));
    }

    #[test]
    fn urls_are_told_from_folders() {
        for url in ["https://example.org/a.git", "ssh://git@example.org/a", "git@example.org:a/b.git"] {
            assert_eq!(Project::named(url).unwrap(), Project::Url(url.to_owned()));
        }
        assert!(matches!(Project::named("./no/such@folder:x"), Err(CliError::Usage(_))));
        assert!(matches!(Project::named(".").unwrap(), Project::Path(path) if path.is_absolute()));
    }
}
