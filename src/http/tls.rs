//! TLS of the API's own: certificate and key from two PEM files, read again when they change, so that a renewed certificate needs no
//! restart. TLS 1.2 and 1.3; no client certificates: tokens say who asks.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{self, ServerConfig};

/// Between two looks at the files, which come with a connection.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Why TLS cannot be offered.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read, or is not in PEM.
    #[error("{path:?} cannot be used for TLS: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: rustls::pki_types::pem::Error,
    },
    /// The files do not go together.
    #[error("certificate and key cannot be used for TLS: {0}")]
    Unfit(#[from] rustls::Error),
}

/// Certificate and key.
#[derive(Debug)]
pub struct Tls {
    certificate: PathBuf,
    key: PathBuf,
    loaded: Mutex<Loaded>,
}

#[derive(Debug)]
struct Loaded {
    config: Arc<ServerConfig>,
    /// The two files that it is from.
    files: [Option<Mark>; 2],
    looked: Instant,
}

/// What a file looks like from outside: a new one differs in one of time, length and inode.
type Mark = (SystemTime, u64, u64);

impl Tls {
    /// Reads both: the certificate's chain, its own first, and its key.
    ///
    /// # Errors
    /// [`TlsError`], naming the file.
    pub fn load(certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        let loaded = Mutex::new(read(certificate, key)?);
        Ok(Self { certificate: certificate.to_owned(), key: key.to_owned(), loaded })
    }

    /// What takes the next connection. Files that have changed and cannot be used leave it as it was, until they can.
    pub(super) fn acceptor(&self) -> TlsAcceptor {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        if loaded.looked.elapsed() >= LOOK_EVERY {
            loaded.looked = Instant::now();
            if marks(&self.certificate, &self.key) != loaded.files {
                match read(&self.certificate, &self.key) {
                    Ok(new) => *loaded = new,
                    Err(error) => tracing::warn!(%error, "the changed certificate is not used"),
                }
            }
        }
        TlsAcceptor::from(Arc::clone(&loaded.config))
    }
}

fn marks(certificate: &Path, key: &Path) -> [Option<Mark>; 2] {
    [certificate, key].map(|path| {
        let meta = std::fs::metadata(path).ok()?;
        Some((meta.modified().ok()?, meta.len(), meta.ino()))
    })
}

fn read(certificate: &Path, key: &Path) -> Result<Loaded, TlsError> {
    // Looked at first: what is written meanwhile is read again.
    let files = marks(certificate, key);
    let of = |path: &Path| {
        let path = path.to_owned();
        move |source| TlsError::File { path, source }
    };
    let chain = CertificateDer::pem_file_iter(certificate).map_err(of(certificate))?;
    let chain = chain.collect::<Result<Vec<_>, _>>().map_err(of(certificate))?;
    let key = PrivateKeyDer::from_pem_file(key).map_err(of(key))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    Ok(Loaded { config: Arc::new(config), files, looked: Instant::now() })
}
