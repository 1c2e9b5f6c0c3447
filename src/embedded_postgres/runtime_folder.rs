//! The folder of the server's socket: short, private, and surely ours.

use super::EmbeddedPostgresError;
use super::data::{files, give_to};
use crate::process::Account;
use nix::unistd::geteuid;
use sha2::{Digest, Sha256};
use std::env;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

/// `sun_path` holds 108 bytes, the last one a NUL.
const SOCKET_PATH_BYTES_MAX: usize = 107;

/// What Postgres calls its socket, with the longest of its lock files.
const SOCKET_NAME: &str = ".s.PGSQL.5432.lock";

/// Makes the folder, or takes it over from an earlier start.
pub(super) fn make(data_dir: &Path, account: Option<Account>) -> Result<PathBuf, EmbeddedPostgresError> {
    let data_dir = &fs::canonicalize(data_dir).map_err(files("cannot find", data_dir))?;
    let folder = place(data_dir, account, env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from));
    if fs::symlink_metadata(&folder).is_ok() {
        check_owner(&folder, account)
            .map_err(files("the socket's folder is somebody else's; remove it:", &folder))?;
        // No server of this cluster lives, or the start would have ended before: what lies in there is stale.
        fs::remove_dir_all(&folder).map_err(files("cannot remove", &folder))?;
    }
    DirBuilder::new()
        .mode(0o700)
        .create(&folder)
        .map_err(files("cannot make the socket's folder", &folder))?;
    give_to(&folder, account)?;
    Ok(folder)
}

/// Under the runtime folder of the user, or `/run` for root, whose account may enter that; else under `/tmp`.
fn place(data_dir: &Path, account: Option<Account>, user_runtime: Option<PathBuf>) -> PathBuf {
    let digest = Sha256::digest(data_dir.as_os_str().as_bytes());
    let name = digest[..6].iter().fold(String::from("agentpool-"), |name, byte| format!("{name}{byte:02x}"));
    let base = if account.is_some() { Some(PathBuf::from("/run")) } else { user_runtime };
    base.filter(|base| base.is_dir() && fits(&base.join(&name))).unwrap_or_else(|| "/tmp".into()).join(name)
}

fn fits(folder: &Path) -> bool {
    folder.join(SOCKET_NAME).as_os_str().len() <= SOCKET_PATH_BYTES_MAX
}

/// In `/tmp` anybody could have made it before us, or a link to elsewhere.
fn check_owner(folder: &Path, account: Option<Account>) -> io::Result<()> {
    let meta = fs::symlink_metadata(folder)?;
    let is_ours =
        meta.uid() == geteuid().as_raw() || account.is_some_and(|account| meta.uid() == account.uid);
    if meta.is_dir() && is_ours && meta.mode() & 0o077 == 0 {
        return Ok(());
    }
    Err(io::Error::new(
        io::ErrorKind::PermissionDenied,
        format!("owner {}, mode {:o}", meta.uid(), meta.mode()),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_socket_path_always_fits() {
        let long = PathBuf::from(format!("/{}", "x".repeat(100)));
        let folder = place(Path::new("/data"), None, Some(long));
        assert!(folder.starts_with("/tmp") && fits(&folder));
        assert_ne!(folder, place(Path::new("/other"), None, None));
    }

    #[test]
    fn a_folder_that_others_may_enter_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        check_owner(folder.path(), None).unwrap_err();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700)).unwrap();
        check_owner(folder.path(), None).unwrap();
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(folder.path(), &link).unwrap();
        check_owner(&link, None).unwrap_err();
    }
}
