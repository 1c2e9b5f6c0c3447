//! The files of the cluster: made once, whole or not at all, and freed of what a killed server left behind.

use super::{EmbeddedPostgresError, PostgresBinaries, ROLE, program};
use crate::domain::turn::StopForce;
use crate::process::{Account, ChildExit, Shims};
use nix::unistd::{Gid, Uid, chown, geteuid};
use std::ffi::OsString;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Seconds on a slow disk; then something hangs.
const INITDB_DEADLINE: Duration = Duration::from_secs(180);

/// `<data_dir>/postgres`, ready to be served.
pub(super) struct DataFolder {
    path: PathBuf,
}

impl DataFolder {
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) async fn prepare(
        data_dir: &Path,
        shims: &Shims,
        bins: &PostgresBinaries,
        account: Option<Account>,
    ) -> Result<Self, EmbeddedPostgresError> {
        fs::create_dir_all(data_dir).map_err(files("cannot make the data folder", data_dir))?;
        let data_dir = &fs::canonicalize(data_dir).map_err(files("cannot find", data_dir))?;
        if let Some(account) = account
            && let Some(folder) = account.first_closed_folder(data_dir)
        {
            return Err(EmbeddedPostgresError::FolderClosed { folder: folder.to_owned(), uid: account.uid });
        }
        let folder = Self { path: data_dir.join("postgres") };
        match major_of_cluster(data_dir) {
            Some(cluster) if cluster != bins.major => {
                let (binaries, dir) = (bins.major, bins.dir.clone());
                return Err(EmbeddedPostgresError::OtherMajor { cluster, binaries, dir });
            }
            Some(_) => {
                folder.check_owner(account)?;
                folder.clear_stale_pid_file()?;
            }
            None => initialise(data_dir, &folder.path, shims, bins, account).await?,
        }
        Ok(folder)
    }

    fn check_owner(&self, account: Option<Account>) -> Result<(), EmbeddedPostgresError> {
        let uid = account.map_or(geteuid().as_raw(), |account| account.uid);
        let owner = fs::metadata(&self.path).map_err(files("cannot look at", &self.path))?.uid();
        if owner != uid {
            return Err(EmbeddedPostgresError::ForeignCluster { folder: self.path.clone(), owner, uid });
        }
        Ok(())
    }

    /// Postgres itself forgives a pid file whose pid is dead. It refuses to start when the number now belongs to somebody
    /// else: that one is told from a server by its working folder, which for a server is the cluster.
    fn clear_stale_pid_file(&self) -> Result<(), EmbeddedPostgresError> {
        let file = self.path.join("postmaster.pid");
        let text = match fs::read_to_string(&file) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(files("cannot read", &file)(error)),
        };
        let pid = text.lines().next().and_then(|line| line.trim().parse::<u32>().ok());
        match pid {
            Some(pid) if fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd == self.path) => {
                Err(EmbeddedPostgresError::AlreadyRunning { pid, folder: self.path.clone() })
            }
            Some(_) | None => fs::remove_file(&file).map_err(files("cannot remove", &file)),
        }
    }
}

/// The major version that made the cluster in this data folder, when there is one.
pub(super) fn major_of_cluster(data_dir: &Path) -> Option<u32> {
    fs::read_to_string(data_dir.join("postgres/PG_VERSION")).ok()?.trim().parse().ok()
}

/// Made beside its place and renamed: a kill in the middle leaves a folder that the next start throws away.
async fn initialise(
    data_dir: &Path,
    place: &Path,
    shims: &Shims,
    bins: &PostgresBinaries,
    account: Option<Account>,
) -> Result<(), EmbeddedPostgresError> {
    let new = data_dir.join("postgres.new");
    match fs::remove_dir_all(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(files("cannot remove", &new)(error));
        }
        Ok(()) | Err(_) => {}
    }
    DirBuilder::new().mode(0o700).create(&new).map_err(files("cannot make", &new))?;
    give_to(&new, account)?;
    // Trust is for whoever reaches the socket, which lies in a folder of mode 0700.
    let mut args: Vec<OsString> = vec!["-D".into(), (&new).into()];
    args.extend(["--username", ROLE, "--encoding=UTF8", "--locale=C", "--data-checksums"].map(Into::into));
    args.extend(["--auth-local=trust", "--auth-host=reject", "--no-instructions"].map(Into::into));
    let initdb = shims.spawn(program(bins, "initdb", args, &new, account)).await?;
    let ended = tokio::time::timeout(INITDB_DEADLINE, initdb.exited()).await;
    initdb.stop(StopForce::Kill).await;
    let exit = ended.unwrap_or(ChildExit::Unknown);
    if exit != ChildExit::Code(0) {
        return Err(EmbeddedPostgresError::Initdb { exit, output: initdb.stderr_tail() });
    }
    fs::rename(&new, place).map_err(files("cannot put in place", place))?;
    File::open(data_dir).and_then(|folder| folder.sync_all()).map_err(files("cannot sync", data_dir))
}

/// Makes the account the owner of a file or folder of ours.
pub(super) fn give_to(path: &Path, account: Option<Account>) -> Result<(), EmbeddedPostgresError> {
    let Some(Account { uid, gid }) = account else { return Ok(()) };
    chown(path, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
        .map_err(|errno| files("cannot give away", path)(errno.into()))
}

/// Our words around an I/O error.
pub(super) fn files(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> EmbeddedPostgresError {
    let path = path.to_owned();
    move |source| EmbeddedPostgresError::Files { what, path, source }
}
