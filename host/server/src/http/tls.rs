//! TLS on the port: the certificate and its key, which may be renewed, and the handshake with a peer.

use std::fmt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock};
use std::time::Duration;

use anyhow::{Context, ensure};
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest, Sha256};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// How often it is looked whether the files are others.
const LOOK: Duration = Duration::from_secs(2);

/// What a port needs to speak TLS. Clones share it.
#[derive(Clone)]
pub struct Tls(Arc<Inner>);

struct Inner {
    certificate: PathBuf,
    key: PathBuf,
    present: RwLock<Present>,
}

/// A certificate and its key that were read and are not in use yet.
pub struct NewCertificate(Present);

struct Present {
    acceptor: TlsAcceptor,
    /// Of both files.
    digest: [u8; 32],
}

impl Present {
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
            "{} holds no certificate; it has to hold one in PEM",
            certificate.display()
        );
        let private = PrivateKeyDer::from_pem_slice(&key_pem).with_context(cannot_read_key)?;
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .context("cannot set TLS up")?
            .with_no_client_auth()
            .with_single_cert(chain, private)
            .with_context(|| format!("cannot use {} with {}", certificate.display(), key.display()))?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let acceptor = TlsAcceptor::from(Arc::new(config));
        Ok(Self { acceptor, digest })
    }
}

impl Tls {
    /// Reads the files, in PEM: the certificate first and then those that vouch for it, and the private key.
    ///
    /// # Errors
    /// When a file cannot be read or holds something else, or the two do not belong together.
    pub fn read(certificate: &Path, key: &Path) -> anyhow::Result<Self> {
        let present = RwLock::new(Present::read(certificate, key)?);
        let (certificate, key) = (certificate.into(), key.into());
        Ok(Self(Arc::new(Inner {
            certificate,
            key,
            present,
        })))
    }

    /// Reads the files again. What was read is in use once it is given to [`replace`](Self::replace).
    ///
    /// # Errors
    /// As with [`read`](Self::read).
    pub fn read_again(&self) -> anyhow::Result<NewCertificate> {
        Present::read(&self.0.certificate, &self.0.key).map(NewCertificate)
    }

    /// Uses a certificate for connections from now on. Returns whether it differs from the one before.
    pub fn replace(&self, new: NewCertificate) -> bool {
        let mut present = self.0.present.write().expect("nothing panics while it holds this lock");
        let is_other = present.digest != new.0.digest;
        *present = new.0;
        is_other
    }

    /// Reads the files again whenever they have changed, also when others were put in their place. Never completes.
    pub async fn keep_fresh(&self) {
        let marks = || [&self.0.certificate, &self.0.key].map(|file| mark(file));
        let mut known = marks();
        loop {
            tokio::time::sleep(LOOK).await;
            let now = marks();
            if now == known {
                continue;
            }
            match self.read_again().map(|new| self.replace(new)) {
                Ok(true) => {
                    tracing::info!(certificate = %self.0.certificate.display(), "the certificate was read again")
                }
                Ok(false) => {}
                // One file may be there before the other is.
                Err(error) => tracing::warn!("the certificate stays as it was: {error:#}"),
            }
            known = now;
        }
    }

    pub(super) async fn accept(&self, tcp: TcpStream) -> std::io::Result<TlsStream<TcpStream>> {
        let acceptor = {
            let present = self.0.present.read().expect("nothing panics while it holds this lock");
            present.acceptor.clone()
        };
        acceptor.accept(tcp).await
    }
}

/// What changes with a file, behind links as well.
fn mark(file: &Path) -> Option<(u64, u64, i64, i64)> {
    let found = std::fs::metadata(file).ok()?;
    Some((found.ino(), found.len(), found.mtime(), found.mtime_nsec()))
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls")
    }
}
