//! Reads and writes files within a worktree and nowhere else, whatever the path says and whatever is changed meanwhile: the
//! kernel resolves each path beneath the worktree (`openat2`, Linux 5.6).

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::{Mode, mkdirat};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

/// Longest file that is read for an agent, in bytes.
const READ_BYTES_MAX: u64 = 16 << 20;

/// Why a file was not read or written.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refused {
    /// The path leaves the worktree.
    #[error("{} does not lie in the worktree", .0.display())]
    Outside(PathBuf),
    /// It is a folder, a pipe, a device.
    #[error("{} is no regular file", .0.display())]
    NotAFile(PathBuf),
    /// There is none.
    #[error("{} does not exist", .0.display())]
    Missing(PathBuf),
    /// It is no text, or too long.
    #[error("{} cannot be read as text: {problem}", path.display())]
    NotText {
        /// Which.
        path: PathBuf,
        /// Why.
        problem: String,
    },
    /// The disk said no.
    #[error("{} could not be used: {source}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// The text of a file; an absolute path must begin with the worktree. Blocking.
///
/// # Errors
/// [`Refused`].
pub(super) fn read(worktree: &Path, path: &Path) -> Result<String, Refused> {
    let root = open_root(worktree, path)?;
    // Without waiting: a pipe that nobody writes to must not hold us.
    let file = open(&root, below(worktree, path)?, OFlag::O_RDONLY | OFlag::O_NONBLOCK, path)?;
    let meta = file.metadata().map_err(|source| Refused::Io { path: path.to_owned(), source })?;
    if !meta.is_file() {
        return Err(Refused::NotAFile(path.to_owned()));
    }
    let not_text = |problem: String| Refused::NotText { path: path.to_owned(), problem };
    if meta.len() > READ_BYTES_MAX {
        return Err(not_text(format!("it has {} bytes, {READ_BYTES_MAX} is the limit", meta.len())));
    }
    let mut bytes = Vec::new();
    file.take(READ_BYTES_MAX)
        .read_to_end(&mut bytes)
        .map_err(|source| Refused::Io { path: path.to_owned(), source })?;
    String::from_utf8(bytes).map_err(|_| not_text("it is no UTF-8".to_owned()))
}

/// Writes the whole file, folders above it included. Blocking.
///
/// # Errors
/// [`Refused`], and then nothing but perhaps folders inside the worktree was made.
pub(super) fn write(worktree: &Path, path: &Path, content: &str) -> Result<(), Refused> {
    let root = open_root(worktree, path)?;
    let within = below(worktree, path)?;
    let mut above: Vec<&Path> = within.ancestors().skip(1).filter(|at| !at.as_os_str().is_empty()).collect();
    above.reverse();
    for folder in above {
        make_folder(&root, folder, path)?;
    }
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_NONBLOCK;
    let mut file = open(&root, within, flags, path)?;
    let io = |source| Refused::Io { path: path.to_owned(), source };
    if !file.metadata().map_err(io)?.is_file() {
        return Err(Refused::NotAFile(path.to_owned()));
    }
    file.set_len(0).and_then(|()| file.write_all(content.as_bytes())).map_err(io)
}

/// A folder within the worktree, or the worktree itself. Blocking, for as long as a look takes.
///
/// # Errors
/// [`Refused`].
pub(super) fn folder(worktree: &Path, path: &Path) -> Result<PathBuf, Refused> {
    if path == worktree || path == Path::new(".") {
        return Ok(worktree.to_owned());
    }
    let within = below(worktree, path)?;
    open(&open_root(worktree, path)?, within, OFlag::O_PATH | OFlag::O_DIRECTORY, path)?;
    Ok(worktree.join(within))
}

/// The part of the path below the worktree; `..` in it is left to the kernel.
fn below<'a>(worktree: &Path, path: &'a Path) -> Result<&'a Path, Refused> {
    let within = if path.is_absolute() { path.strip_prefix(worktree).ok() } else { Some(path) };
    within.filter(|within| within.file_name().is_some()).ok_or_else(|| Refused::Outside(path.to_owned()))
}

fn open_root(worktree: &Path, path: &Path) -> Result<File, Refused> {
    File::open(worktree).map_err(|source| Refused::Io { path: path.to_owned(), source })
}

fn open(root: &File, within: &Path, flags: OFlag, path: &Path) -> Result<File, Refused> {
    let mode = if flags.contains(OFlag::O_CREAT) { Mode::from_bits_truncate(0o644) } else { Mode::empty() };
    let how = OpenHow::new()
        .flags(flags | OFlag::O_CLOEXEC)
        .mode(mode)
        .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    openat2(root.as_fd(), within, how).map(File::from).map_err(|errno| refused(errno, path))
}

fn make_folder(root: &File, within: &Path, path: &Path) -> Result<(), Refused> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY;
    match open(root, within, flags, path) {
        Ok(_) => return Ok(()),
        Err(Refused::Missing(_)) => {}
        Err(error) => return Err(error),
    }
    let parent = within.parent().filter(|parent| !parent.as_os_str().is_empty());
    let name = within.file_name().ok_or_else(|| Refused::Outside(path.to_owned()))?;
    let parent = match parent {
        Some(parent) => open(root, parent, flags, path)?,
        None => root.try_clone().map_err(|source| Refused::Io { path: path.to_owned(), source })?,
    };
    match mkdirat(parent.as_fd(), name, Mode::from_bits_truncate(0o755)) {
        Ok(()) | Err(Errno::EEXIST) => Ok(()),
        Err(errno) => Err(refused(errno, path)),
    }
}

fn refused(errno: Errno, path: &Path) -> Refused {
    let path = path.to_owned();
    match errno {
        Errno::EXDEV | Errno::ELOOP => Refused::Outside(path),
        Errno::ENOENT => Refused::Missing(path),
        Errno::EISDIR | Errno::ENXIO => Refused::NotAFile(path),
        errno => Refused::Io { path, source: errno.into() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn nothing_outside_is_touched_whatever_the_path_says() {
        let folder = tempfile::tempdir().unwrap();
        let base = folder.path().canonicalize().unwrap();
        let (worktree, sibling) = (base.join("wt"), base.join("wt-evil"));
        fs::create_dir(&worktree).unwrap();
        fs::create_dir(&sibling).unwrap();
        fs::write(sibling.join("secret"), "s").unwrap();
        symlink(&sibling, worktree.join("link")).unwrap();
        symlink("../wt-evil/secret", worktree.join("file")).unwrap();
        symlink("/proc/self/environ", worktree.join("magic")).unwrap();
        let outside = [
            sibling.join("secret"),
            worktree.join("../wt-evil/secret"),
            worktree.join("link/secret"),
            worktree.join("file"),
            worktree.join("magic"),
            PathBuf::from("../wt-evil/secret"),
            PathBuf::from("/etc/passwd"),
            worktree.clone(),
            PathBuf::from(""),
            PathBuf::from(".."),
        ];
        for path in outside {
            assert!(matches!(read(&worktree, &path), Err(Refused::Outside(_))), "{path:?}");
            assert!(matches!(write(&worktree, &path, "x"), Err(Refused::Outside(_))), "{path:?}");
        }
        assert_eq!(fs::read_to_string(sibling.join("secret")).unwrap(), "s");
    }

    #[test]
    fn what_lies_inside_is_read_and_written_with_the_folders_above_it() {
        let folder = tempfile::tempdir().unwrap();
        let worktree = folder.path().canonicalize().unwrap();
        write(&worktree, Path::new("a/b/c.txt"), "one, and longer").unwrap();
        write(&worktree, &worktree.join("a/b/c.txt"), "two").unwrap();
        symlink("a/b", worktree.join("inside")).unwrap();
        assert_eq!(read(&worktree, Path::new("inside/c.txt")).unwrap(), "two");
        assert_eq!(
            read(&worktree, Path::new("a/x/../b/c.txt")).unwrap_err().to_string(),
            "a/x/../b/c.txt does not exist"
        );
        assert!(matches!(read(&worktree, Path::new("a")), Err(Refused::NotAFile(_))));
        nix::unistd::mkfifo(&worktree.join("pipe"), Mode::from_bits_truncate(0o600)).unwrap();
        assert!(matches!(read(&worktree, Path::new("pipe")), Err(Refused::NotAFile(_))));
        fs::write(worktree.join("bin"), b"\xff").unwrap();
        assert!(matches!(read(&worktree, Path::new("bin")), Err(Refused::NotText { .. })));
    }
}
