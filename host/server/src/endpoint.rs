//! The address of a server by http or https, and connections to it. It knows no requests.

use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context as TaskContext, Poll, ready};

use anyhow::{Context, Result, bail, ensure};
use http::Uri;
use http::uri::Scheme;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, join};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// The address of a server by http or https.
pub(crate) struct Endpoint {
    pub(crate) uri: Uri,
    host: String,
    port: u16,
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

/// Bytes that a server may still send over a connection: of TLS, of heads and of bodies. More end it, so that a server which never comes to
/// an end of its answer does not keep this process busy.
pub(crate) type BytesLeft = Arc<AtomicUsize>;

/// A connection.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

impl Endpoint {
    /// The server of this URL. For https, it has to be trusted by a certificate in the file `ca`, or by one that browsers trust. Errors about
    /// the file begin with `ca_key`, its key in the configuration; others are `wanted`.
    ///
    /// # Errors
    /// If it is no such URL, or the file cannot be used.
    pub(crate) fn new(url: &str, ca: Option<&Path>, ca_key: &str, wanted: &'static str) -> Result<Self> {
        let uri: Uri = url.parse().context(wanted)?;
        let host = uri.host().context(wanted)?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let secure = match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTPS => true,
            Some(scheme) if *scheme == Scheme::HTTP => false,
            _ => bail!(wanted),
        };
        let tls = match secure {
            true => {
                let name = ServerName::try_from(host.clone()).context(wanted)?;
                Some((connector(ca, ca_key)?, name))
            }
            false => None,
        };
        Ok(Self {
            port: uri.port_u16().unwrap_or(if secure { 443 } else { 80 }),
            uri,
            host,
            tls,
        })
    }

    /// Opens a connection.
    ///
    /// # Errors
    /// If the server cannot be reached, or is not trusted.
    pub(crate) async fn connect(&self, left: BytesLeft) -> Result<Box<dyn Stream>> {
        let stream = TcpStream::connect((self.host.as_str(), self.port))
            .await
            .context("cannot connect")?;
        let _ = stream.set_nodelay(true);
        let (reader, writer) = stream.into_split();
        let stream = join(BoundedReader { reader, left }, writer);
        Ok(match &self.tls {
            Some((tls, name)) => {
                let stream = tls
                    .connect(name.clone(), stream)
                    .await
                    .context("TLS handshake failed")?;
                Box::new(stream)
            }
            None => Box::new(stream),
        })
    }
}

/// Fails once the server has sent more than it may.
struct BoundedReader<R> {
    reader: R,
    left: BytesLeft,
}

impl<R: AsyncRead + Unpin> AsyncRead for BoundedReader<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        task: &mut TaskContext<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.reader).poll_read(task, buffer))?;
        let read = buffer.filled().len() - before;
        let taken = self
            .left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(read));
        Poll::Ready(match taken {
            Ok(_) => Ok(()),
            Err(_) => Err(io::Error::other("the server sends too many bytes")),
        })
    }
}

fn connector(ca: Option<&Path>, ca_key: &str) -> Result<TlsConnector> {
    let mut trusted = RootCertStore::empty();
    match ca {
        Some(file) => {
            let unusable = || format!("{ca_key}: cannot use {}", file.display());
            for certificate in CertificateDer::pem_file_iter(file).with_context(unusable)? {
                trusted
                    .add(certificate.with_context(unusable)?)
                    .with_context(unusable)?;
            }
            ensure!(
                !trusted.is_empty(),
                "{ca_key}: no certificate in {}; it has to be a PEM file",
                file.display()
            );
        }
        None => trusted.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .context("the cryptography of this build supports no version of TLS")?
        .with_root_certificates(trusted)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}
