//! TLS of a port: certificate and private key, which are reloaded when their files change, and the handshake.

use std::fmt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use parking_lot::RwLock;
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest, Sha256};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// How often the files are checked for changes.
const POLL_INTERVAL: Duration = Duration::from_secs(2);

/// TLS of a port. Clones share it.
#[derive(Clone)]
pub struct Tls(Arc<TlsFiles>);

struct TlsFiles {
    certificate: PathBuf,
    key: PathBuf,
    loaded: RwLock<LoadedCertificate>,
}

struct LoadedCertificate {
    acceptor: TlsAcceptor,
    /// SHA-256 of the content of both files.
    digest: [u8; 32],
}

impl LoadedCertificate {
    fn read(certificate: &Path, key: &Path) -> anyhow::Result<Self> {
        let mut hash = Sha256::new();
        for file in [certificate, key] {
            // An error is reported below.
            hash.update(std::fs::read(file).unwrap_or_default());
        }
        let digest = hash.finalize().into();
        let chain = CertificateDer::pem_file_iter(certificate)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .with_context(|| format!("cannot read the certificate {}", certificate.display()))?;
        ensure!(
            !chain.is_empty(),
            "{} holds no certificate; it must hold one in PEM",
            certificate.display()
        );
        let private = PrivateKeyDer::from_pem_file(key)
            .with_context(|| format!("cannot read the private key {}", key.display()))?;
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .context("cannot set up TLS")?
            .with_no_client_auth()
            .with_single_cert(chain, private)
            .with_context(|| {
                format!(
                    "cannot use the certificate {} with the key {}",
                    certificate.display(),
                    key.display()
                )
            })?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let acceptor = TlsAcceptor::from(Arc::new(config));
        Ok(Self { acceptor, digest })
    }
}

impl Tls {
    /// Reads the files, in PEM: the certificate followed by its chain, and the private key.
    ///
    /// # Errors
    /// If a file cannot be read or has other content, or certificate and key do not match.
    pub fn read(certificate: &Path, key: &Path) -> anyhow::Result<Self> {
        let loaded = RwLock::new(LoadedCertificate::read(certificate, key)?);
        let (certificate, key) = (certificate.into(), key.into());
        Ok(Self(Arc::new(TlsFiles {
            certificate,
            key,
            loaded,
        })))
    }

    /// Reads the files again, for new connections. True if they have changed.
    ///
    /// # Errors
    /// As with [`read`](Self::read). The present certificate stays in use.
    pub fn reload(&self) -> anyhow::Result<bool> {
        let read = LoadedCertificate::read(&self.0.certificate, &self.0.key)?;
        let mut loaded = self.0.loaded.write();
        let has_changed = loaded.digest != read.digest;
        *loaded = read;
        Ok(has_changed)
    }

    /// Reloads the files whenever they change or are replaced. Never completes.
    pub async fn watch_files(&self) {
        let identities = || [&self.0.certificate, &self.0.key].map(|file| file_identity(file));
        let mut known = identities();
        loop {
            tokio::time::sleep(POLL_INTERVAL).await;
            let now = identities();
            if now == known {
                continue;
            }
            match self.reload() {
                Ok(true) => {
                    tracing::info!(certificate = %self.0.certificate.display(), "the certificate was read again")
                }
                Ok(false) => {}
                // One file may have been replaced before the other.
                Err(error) => {
                    tracing::warn!(error = %format!("{error:#}"), "the certificate stays as it was: cannot read it again")
                }
            }
            known = now;
        }
    }

    pub(super) async fn accept(&self, tcp: TcpStream) -> std::io::Result<TlsStream<TcpStream>> {
        let acceptor = {
            let loaded = self.0.loaded.read();
            loaded.acceptor.clone()
        };
        acceptor.accept(tcp).await
    }
}

/// Inode, size and time of a file, behind links as well. They differ when it was changed or replaced.
fn file_identity(file: &Path) -> Option<(u64, u64, i64, i64)> {
    let found = std::fs::metadata(file).ok()?;
    Some((found.ino(), found.len(), found.mtime(), found.mtime_nsec()))
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls")
    }
}
