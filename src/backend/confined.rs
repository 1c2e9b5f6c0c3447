//! Writes a file within a worktree and nowhere else, whatever the path says.

use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

/// Why a file was not written.
#[derive(Debug, thiserror::Error)]
pub(super) enum WriteRefused {
    /// The path leaves the worktree, or goes through a symbolic link.
    #[error("{} does not lie in the worktree: give a relative path without `..` and symbolic links", .0.display())]
    Outside(PathBuf),
    /// The disk said no.
    #[error("{} could not be written", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Writes the file, folders above it included. Blocking.
///
/// # Errors
/// [`WriteRefused`], and then nothing but perhaps folders inside the worktree was made.
pub(super) fn write(worktree: &Path, path: &Path, content: &str) -> Result<(), WriteRefused> {
    let outside = || WriteRefused::Outside(path.to_owned());
    let mut names = Vec::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => names.push(name),
            Component::CurDir => {}
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => return Err(outside()),
        }
    }
    let Some((file, folders)) = names.split_last() else { return Err(outside()) };
    let io = |source| WriteRefused::Io { path: path.to_owned(), source };
    let mut at = worktree.to_owned();
    for folder in folders {
        at.push(folder);
        match fs::symlink_metadata(&at) {
            Ok(found) if found.is_symlink() => return Err(outside()),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => fs::create_dir(&at).map_err(io)?,
            Err(error) => return Err(io(error)),
        }
    }
    at.push(file);
    if fs::symlink_metadata(&at).is_ok_and(|found| found.is_symlink()) {
        return Err(outside());
    }
    fs::write(&at, content).map_err(io)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_written_outside_of_the_worktree() {
        let base = tempfile::tempdir().unwrap();
        let tree = base.path().join("tree");
        fs::create_dir(&tree).unwrap();
        std::os::unix::fs::symlink(base.path(), tree.join("out")).unwrap();
        std::os::unix::fs::symlink(base.path().join("x"), tree.join("link")).unwrap();
        for path in ["../x", "/x", "a/../../x", "out/x", "link", "", ".", ".."] {
            let refused = write(&tree, Path::new(path), "no");
            assert!(matches!(refused, Err(WriteRefused::Outside(_))), "{path:?} was not refused");
        }
        assert!(!base.path().join("x").exists());
        write(&tree, Path::new("./a/b.txt"), "yes").unwrap();
        assert_eq!(fs::read_to_string(tree.join("a/b.txt")).unwrap(), "yes");
    }
}
