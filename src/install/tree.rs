//! The files of an installed package: links that its switched-off script would have made, modes, size, place.

use super::Package;
use serde::Deserialize;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Component, Path};

/// A folder with nothing in it, whatever was there.
pub(super) fn make_empty(folder: &Path) -> io::Result<()> {
    remove(folder)?;
    fs::create_dir(folder)
}

/// Does what the package's own script would do, and lets every account of the machine run the programs: Postgres is run
/// by another one than the installer.
pub(super) fn fix_up(package: Package, root: &Path) -> io::Result<()> {
    if package == Package::EmbeddedPostgres
        && let Some(name) = package.npm_name()
    {
        link_libraries(&root.join("node_modules").join(name))?;
    }
    open_up(root)
}

/// The folder appears at its place in one step; a broken one that was there makes room.
pub(super) fn put_in_place(staging: &Path, place: &Path) -> io::Result<()> {
    remove(place)?;
    fs::rename(staging, place)
}

/// Bytes of all files below; what vanishes meanwhile counts nothing.
pub(super) fn size(folder: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    let of = |entry: fs::DirEntry| match entry.metadata() {
        Ok(meta) if meta.is_dir() => size(&entry.path()),
        Ok(meta) => meta.size(),
        Err(_) => 0,
    };
    entries.flatten().map(of).sum()
}

/// npm packs no links: the package lists them in `native/pg-symlinks.json`, paths from its own root.
#[derive(Deserialize)]
struct Link {
    source: String,
    target: String,
}

fn link_libraries(package: &Path) -> io::Result<()> {
    let links: Vec<Link> = serde_json::from_slice(&fs::read(package.join("native/pg-symlinks.json"))?)?;
    for Link { source, target } in links {
        let (source, target) = (Path::new(&source), Path::new(&target));
        let inside = |path: &Path| path.components().all(|part| matches!(part, Component::Normal(_)));
        let name = source.file_name().filter(|_| inside(source) && inside(target));
        let Some(name) = name.filter(|_| source.parent() == target.parent()) else {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("a link we do not make: {target:?}"),
            ));
        };
        let link = package.join(target);
        if fs::symlink_metadata(&link).is_err() {
            symlink(name, link)?;
        }
    }
    Ok(())
}

/// Read for all, and enter or execute for all where the owner may.
fn open_up(path: &Path) -> io::Result<()> {
    let meta = fs::symlink_metadata(path)?;
    if meta.is_symlink() {
        return Ok(());
    }
    let mode = meta.mode() & 0o7777;
    let executable = if mode & 0o100 == 0 { 0 } else { 0o111 };
    let wanted = mode | 0o444 | executable;
    if wanted != mode {
        fs::set_permissions(path, Permissions::from_mode(wanted))?;
    }
    if meta.is_dir() {
        for entry in fs::read_dir(path)? {
            open_up(&entry?.path())?;
        }
    }
    Ok(())
}

fn remove(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_link_leaves_the_package() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("native")).unwrap();
        let list = |json: &str| fs::write(folder.path().join("native/pg-symlinks.json"), json).unwrap();
        list(r#"[{"source":"native/libpq.so.5.17","target":"native/libpq.so.5"}]"#);
        link_libraries(folder.path()).unwrap();
        link_libraries(folder.path()).expect("links that are there stay");
        assert_eq!(
            fs::read_link(folder.path().join("native/libpq.so.5")).unwrap(),
            Path::new("libpq.so.5.17")
        );
        list(r#"[{"source":"native/../../x","target":"native/../../y"}]"#);
        assert_eq!(link_libraries(folder.path()).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
