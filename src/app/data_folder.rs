//! The data folder: locked for one program at a time, with the node's id and the API's token in it.

use crate::domain::ids::NodeId;
use crate::http::generate_token;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

/// Shims of an earlier start hold the lock until their trees are gone: the lifeline's deadline of 12 s, and the sweep.
const LOCK_WAIT: Duration = Duration::from_secs(16);
const LOCK_PAUSE: Duration = Duration::from_millis(100);

/// An open data folder. The lock is held for as long as this or a shim lives.
pub struct DataFolder {
    path: PathBuf,
    lock: Arc<OwnedFd>,
}

/// Why a data folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataFolderError {
    /// Another program has it.
    #[error(
        "the data folder {0:?} is in use by another agentpool: stop that one, or choose another folder with --data-dir"
    )]
    InUse(PathBuf),
    /// It cannot be written.
    #[error(
        "cannot use the data folder {path:?}: {source}; check who owns it and the space on its disk, or choose another with --data-dir"
    )]
    Files {
        /// Which file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl DataFolder {
    /// Makes the folder where it is new and takes its lock; waits while shims of an earlier start end.
    ///
    /// # Errors
    /// [`DataFolderError`].
    pub async fn open(path: &Path) -> Result<Self, DataFolderError> {
        // Open to enter, closed to list: Postgres may run under another account, and has to get to its own folder.
        let made = fs::DirBuilder::new().recursive(true).mode(0o711).create(path);
        made.map_err(files(path))?;
        let path = fs::canonicalize(path).map_err(files(path))?;
        let file = path.join("lock");
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&file)
            .map_err(files(&file))?;
        take(&lock, &path).await?;
        Ok(Self { path, lock: Arc::new(lock.into()) })
    }

    /// Canonical.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// For the shims, which inherit it.
    pub fn lock(&self) -> Arc<OwnedFd> {
        self.lock.clone()
    }

    /// The node's id, made at the first start.
    ///
    /// # Errors
    /// [`DataFolderError::Files`].
    pub fn node_id(&self) -> Result<NodeId, DataFolderError> {
        let file = self.path.join("node_id");
        match fs::read_to_string(&file) {
            Ok(text) => text
                .trim()
                .parse()
                .map_err(|error| files(&file)(io::Error::new(io::ErrorKind::InvalidData, error))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let node = NodeId(Uuid::new_v4());
                write_new(&file, 0o644, &node.to_string())?;
                Ok(node)
            }
            Err(error) => Err(files(&file)(error)),
        }
    }

    /// The API's token, made at the first start; nobody else may read the file.
    ///
    /// # Errors
    /// [`DataFolderError::Files`].
    pub fn token(&self) -> Result<String, DataFolderError> {
        let file = self.path.join("token");
        match fs::read_to_string(&file) {
            Ok(text) if !text.trim().is_empty() => {
                fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).map_err(files(&file))?;
                Ok(text.trim().to_owned())
            }
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(files(&file)(error)),
            Ok(_) | Err(_) => {
                let token = generate_token();
                write_new(&file, 0o600, &token)?;
                Ok(token)
            }
        }
    }
}

async fn take(lock: &File, path: &Path) -> Result<(), DataFolderError> {
    let deadline = tokio::time::Instant::now() + LOCK_WAIT;
    let mut told = false;
    loop {
        match lock.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::Error(error)) => return Err(files(path)(error)),
            Err(TryLockError::WouldBlock) if tokio::time::Instant::now() >= deadline => {
                return Err(DataFolderError::InUse(path.to_owned()));
            }
            Err(TryLockError::WouldBlock) => {
                if !std::mem::replace(&mut told, true) {
                    tracing::info!(
                        "the data folder is in use; waiting up to {} s for an earlier start to end",
                        LOCK_WAIT.as_secs()
                    );
                }
                tokio::time::sleep(LOCK_PAUSE).await;
            }
        }
    }
}

/// Whole or not at all: written beside and renamed.
fn write_new(file: &Path, mode: u32, text: &str) -> Result<(), DataFolderError> {
    let beside = file.with_extension("new");
    let written =
        OpenOptions::new().create(true).truncate(true).write(true).mode(mode).open(&beside).and_then(
            |mut new| {
                writeln!(new, "{text}")?;
                new.sync_all()
            },
        );
    written.map_err(files(&beside))?;
    fs::rename(&beside, file).map_err(files(file))
}

fn files(path: &Path) -> impl FnOnce(io::Error) -> DataFolderError {
    let path = path.to_owned();
    |source| DataFolderError::Files { path, source }
}
