//! A GET by http or https: a small answer, no redirects, one connection for each.
//!
//! A JWK set is fetched a few times an hour, so there is no pool. The caller sets a timeout.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use futures_util::future;
use http::header::{ACCEPT, HOST, USER_AGENT};
use http::uri::Scheme;
use http::{Request, StatusCode, Uri};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// Bytes that an answer may have. A JWK set has a few thousand.
const MAX_BYTES: usize = 256 * 1_024;

/// The request for a JWK set.
pub(super) struct Fetch {
    uri: Uri,
    host: String,
    port: u16,
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

impl Fetch {
    /// Fetches this URL. For https, the server has to be trusted by a certificate in the file `ca`, or by one that browsers trust.
    pub(super) fn new(url: &str, ca: Option<&Path>) -> Result<Self> {
        const WANTED: &str = "[io-node.token] jwks: not a URL such as https://login.example.com/.well-known/jwks.json";
        let uri: Uri = url.parse().context(WANTED)?;
        let host = uri.host().context(WANTED)?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let secure = match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTPS => true,
            Some(scheme) if *scheme == Scheme::HTTP => false,
            _ => bail!(WANTED),
        };
        let tls = match secure {
            true => {
                let name = ServerName::try_from(host.clone()).context(WANTED)?;
                Some((connector(ca)?, name))
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

    /// Fetches the body of an answer with status 200.
    pub(super) async fn get(&self) -> Result<Vec<u8>> {
        let stream = TcpStream::connect((self.host.as_str(), self.port))
            .await
            .context("cannot connect")?;
        match &self.tls {
            Some((tls, name)) => {
                let stream = tls
                    .connect(name.clone(), stream)
                    .await
                    .context("TLS handshake failed")?;
                self.get_by(stream).await
            }
            None => self.get_by(stream).await,
        }
    }

    async fn get_by(&self, stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) -> Result<Vec<u8>> {
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let connection = async {
            // The request reports its errors. Its end is not the end of the answer.
            let _ = connection.await;
            future::pending().await
        };
        tokio::select! {
            body = self.ask(sender) => body,
            never = connection => never,
        }
    }

    async fn ask(&self, mut sender: http1::SendRequest<Empty<Bytes>>) -> Result<Vec<u8>> {
        let path = self.uri.path_and_query().map_or("/", |path| path.as_str());
        let authority = self.uri.authority().context("the URL has no host")?;
        let request = Request::get(path)
            .header(HOST, authority.as_str())
            .header(ACCEPT, "application/jwk-set+json, application/json")
            .header(USER_AGENT, concat!("plugnode/", env!("CARGO_PKG_VERSION")))
            .body(Empty::new())?;
        let response = sender.send_request(request).await.context("no answer")?;
        let status = response.status();
        ensure!(
            !status.is_redirection(),
            "it redirects ({status}), and redirects are not followed: configure the final URL"
        );
        ensure!(status == StatusCode::OK, "the answer is {status}");
        let body = Limited::new(response.into_body(), MAX_BYTES).collect().await;
        let body =
            body.map_err(|error| anyhow::anyhow!("cannot read the answer, at most {MAX_BYTES} bytes: {error}"))?;
        Ok(body.to_bytes().into())
    }
}

impl fmt::Display for Fetch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.uri.fmt(f)
    }
}

fn connector(ca: Option<&Path>) -> Result<TlsConnector> {
    let mut trusted = RootCertStore::empty();
    match ca {
        Some(file) => {
            let unusable = || format!("[io-node.token] jwks-ca: cannot use {}", file.display());
            for certificate in CertificateDer::pem_file_iter(file).with_context(unusable)? {
                trusted
                    .add(certificate.with_context(unusable)?)
                    .with_context(unusable)?;
            }
            ensure!(
                !trusted.is_empty(),
                "[io-node.token] jwks-ca: no certificate in {}; it has to be a PEM file",
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
