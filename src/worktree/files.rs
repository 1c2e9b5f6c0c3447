//! Small files, read and written without trust in what an agent may have put in their place.
//! Never follows a symbolic link at the end of a path, never waits for a FIFO, never reads without a bound.

use super::error::WorktreeError;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// The content of a regular file of at most `bytes_max` bytes; none when it is anything else.
pub(super) fn read(path: &Path, bytes_max: u64) -> Option<Vec<u8>> {
    let meta = fs::symlink_metadata(path).ok()?;
    if !meta.is_file() || meta.len() > bytes_max {
        return None;
    }
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(bytes_max).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

/// The trimmed text of a small file (64 KiB at most).
pub(super) fn read_line(path: &Path) -> Option<String> {
    let text = String::from_utf8(read(path, 64 << 10)?).ok()?;
    Some(text.trim_end().to_owned())
}

/// Replaces a file as a whole: readers see the old content or the new, and a link in its place is replaced, not followed.
pub(super) fn write(path: &Path, bytes: &[u8]) -> Result<(), WorktreeError> {
    put(path, bytes, false)
}

/// As [`write()`], and the new content is on disk when it returns.
pub(super) fn write_durably(path: &Path, bytes: &[u8]) -> Result<(), WorktreeError> {
    put(path, bytes, true)
}

fn put(path: &Path, bytes: &[u8], sync: bool) -> Result<(), WorktreeError> {
    let mut name = path.file_name().expect("every path of ours has a name").to_os_string();
    name.push(format!(".{}.new", uuid::Uuid::new_v4().simple()));
    let new = path.with_file_name(name);
    let result = (|| {
        let mut file = File::create_new(&new)?;
        file.write_all(bytes)?;
        if sync {
            file.sync_all()?;
        }
        fs::rename(&new, path)?;
        if sync { path.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all()) } else { Ok(()) }
    })();
    result.map_err(|err| {
        let _ = fs::remove_file(&new);
        WorktreeError::io(path)(err)
    })
}

/// Makes a directory and those above it.
pub(super) fn make_dir(path: &Path) -> Result<(), WorktreeError> {
    fs::create_dir_all(path).map_err(WorktreeError::io(path))
}

/// True for a real directory, not for a link to one.
pub(super) fn is_dir(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|meta| meta.is_dir())
}

/// True for a regular file that is long enough to be an index of git: twelve bytes of header and a checksum.
pub(super) fn is_index(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|meta| meta.is_file() && meta.len() >= 32)
}

/// Removes a file, a link, or a directory with all that is in it; nothing there is fine.
pub(super) fn remove(path: &Path) -> Result<(), WorktreeError> {
    let removed = match fs::symlink_metadata(path) {
        Err(err) => Err(err),
        Ok(meta) if meta.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
    };
    match removed {
        Err(err) if err.kind() != io::ErrorKind::NotFound => Err(WorktreeError::io(path)(err)),
        _ => Ok(()),
    }
}

/// Moves what is at `path` to the first free name `<to>-1`, `<to>-2`, …, and says which.
pub(super) fn move_aside(path: &Path, to: &Path) -> Result<PathBuf, WorktreeError> {
    let stem = to.display().to_string();
    let free = (1..)
        .map(|n| PathBuf::from(format!("{stem}-{n}")))
        .find(|candidate| fs::symlink_metadata(candidate).is_err())
        .expect("the numbers do not run out");
    fs::rename(path, &free).map_err(WorktreeError::io(path))?;
    Ok(free)
}
