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
pub struct Tls(Arc<RwLock<LoadedCertificate>>);

/// A certificate and its key that were read and are not in use yet.
pub struct NewCertificate(LoadedCertificate);

struct LoadedCertificate {
    certificate: PathBuf,
    key: PathBuf,
    acceptor: TlsAcceptor,
    /// SHA-256 of the content of both files.
    digest: [u8; 32],
}

impl LoadedCertificate {
    fn read(certificate: &Path, key: &Path) -> anyhow::Result<Self> {
        let cannot_read_certificate = || format!("cannot read the certificate {}", certificate.display());
        let cannot_read_key = || format!("cannot read the private key {}", key.display());
        let chain_pem = std::fs::read(certificate).with_context(cannot_read_certificate)?;
        let key_pem = std::fs::read(key).with_context(cannot_read_key)?;
        let digest = Sha256::new()
            .chain_update(&chain_pem)
            .chain_update(&key_pem)
            .finalize()
            .into();
        let chain = CertificateDer::pem_slice_iter(&chain_pem)
            .collect::<Result<Vec<_>, _>>()
            .with_context(cannot_read_certificate)?;
        ensure!(
            !chain.is_empty(),
            "{} holds no certificate; it must hold one in PEM",
            certificate.display()
        );
        let private = PrivateKeyDer::from_pem_slice(&key_pem).with_context(cannot_read_key)?;
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
        Ok(Self {
            certificate: certificate.into(),
            key: key.into(),
            acceptor,
            digest,
        })
    }
}

impl NewCertificate {
    /// Reads the files, in PEM. They are in use once they are given to [`Tls::replace`].
    ///
    /// # Errors
    /// As with [`Tls::read`].
    pub fn read(certificate: &Path, key: &Path) -> anyhow::Result<Self> {
        LoadedCertificate::read(certificate, key).map(Self)
    }
}

impl Tls {
    /// Reads the files, in PEM: the certificate followed by its chain, and the private key.
    ///
    /// # Errors
    /// If a file cannot be read or has other content, or certificate and key do not match.
    pub fn read(certificate: &Path, key: &Path) -> anyhow::Result<Self> {
        let loaded = LoadedCertificate::read(certificate, key)?;
        Ok(Self(Arc::new(RwLock::new(loaded))))
    }

    fn read_again(&self) -> anyhow::Result<NewCertificate> {
        let (certificate, key) = self.files();
        NewCertificate::read(&certificate, &key)
    }

    fn files(&self) -> (PathBuf, PathBuf) {
        let loaded = self.0.read();
        (loaded.certificate.clone(), loaded.key.clone())
    }

    /// Uses a certificate for new connections, and from now on watches its files. Returns whether it differs from the one before.
    pub fn replace(&self, new: NewCertificate) -> bool {
        let mut loaded = self.0.write();
        let has_changed = loaded.digest != new.0.digest;
        *loaded = new.0;
        has_changed
    }

    /// Reloads the files whenever they change or are replaced. Never completes.
    pub async fn watch_files(&self) {
        let identities = || {
            let (certificate, key) = self.files();
            [file_identity(&certificate), file_identity(&key)]
        };
        let mut known = identities();
        loop {
            tokio::time::sleep(POLL_INTERVAL).await;
            let now = identities();
            if now == known {
                continue;
            }
            match self.read_again().map(|new| self.replace(new)) {
                Ok(true) => {
                    tracing::info!(certificate = %self.files().0.display(), "the certificate was read again")
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
            let loaded = self.0.read();
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::testing::certificate;

    #[test]
    fn replaces_certificate_by_one_of_other_files() {
        let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let [first, second] = folders.each_ref().map(|folder| certificate(folder.path()));
        let tls = Tls::read(&first.0, &first.1).unwrap();
        assert!(!tls.replace(NewCertificate::read(&first.0, &first.1).unwrap()));
        assert!(tls.replace(NewCertificate::read(&second.0, &second.1).unwrap()));
        assert_eq!(tls.files(), second);
    }
}
