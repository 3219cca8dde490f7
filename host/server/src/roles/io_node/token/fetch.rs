//! One GET of http or https: a small answer, no redirects, a connection of its own.
//!
//! A JWK set is asked for a few times an hour, so there is no pool. How long it may take is the caller's affair.

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

/// Bytes of an answer. A set of keys has a few thousand.
const MOST: usize = 256 * 1_024;

/// Where to fetch something, and how.
pub(super) struct Fetch {
    uri: Uri,
    host: String,
    port: u16,
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

impl Fetch {
    /// From this URL; for https, from a server that one of these certificates vouches for, or one that browsers trust.
    pub(super) fn new(url: &str, ca: Option<&Path>) -> Result<Self> {
        const WANTED: &str =
            "[io-node.token] jwks: this is not a URL such as https://login.example.com/.well-known/jwks.json";
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

    /// The body of a 200.
    pub(super) async fn get(&self) -> Result<Vec<u8>> {
        let stream = TcpStream::connect((self.host.as_str(), self.port))
            .await
            .context("cannot connect")?;
        match &self.tls {
            Some((tls, name)) => {
                let stream = tls.connect(name.clone(), stream).await.context("cannot agree on TLS")?;
                self.get_by(stream).await
            }
            None => self.get_by(stream).await,
        }
    }

    async fn get_by(&self, stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) -> Result<Vec<u8>> {
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let connection = async {
            // Its errors are those of the request, too; and its end is not the answer's.
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
        let response = sender.send_request(request).await.context("there is no answer")?;
        let status = response.status();
        ensure!(
            !status.is_redirection(),
            "it is somewhere else ({status}), and redirects are not followed; name the URL that it is at"
        );
        ensure!(status == StatusCode::OK, "the answer is {status}");
        let body = Limited::new(response.into_body(), MOST).collect().await;
        let body = body.map_err(|error| anyhow::anyhow!("cannot read the answer, {MOST} bytes at most: {error}"))?;
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
                "[io-node.token] jwks-ca: there is no certificate in {}; it is a PEM file",
                file.display()
            );
        }
        None => trusted.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .context("the cryptography of this build has no version of TLS")?
        .with_root_certificates(trusted)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}
