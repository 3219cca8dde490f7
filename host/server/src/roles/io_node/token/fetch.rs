//! A GET by http or https: a small answer, no redirects, one connection for each.
//!
//! A JWK set is fetched a few times an hour, so there is no pool. The caller sets a timeout.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use futures_util::future;
use http::header::{ACCEPT, HOST, USER_AGENT};
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::endpoint::Endpoint;

/// Bytes that an answer may have. A JWK set has a few thousand.
const MAX_BYTES: usize = 256 * 1_024;
/// Bytes that it may have with its head and what TLS adds.
const MAX_ANSWER: usize = 2 * MAX_BYTES;

/// The request for a JWK set.
pub(super) struct Fetch {
    endpoint: Endpoint,
}

impl Fetch {
    /// Fetches this URL. For https, the server has to be trusted by a certificate in the file `ca`, or by one that browsers trust.
    pub(super) fn new(url: &str, ca: Option<&Path>) -> Result<Self> {
        const WANTED: &str = "[io-node.token] jwks: not a URL such as https://login.example.com/.well-known/jwks.json";
        let endpoint = Endpoint::new(url, ca, "[io-node.token] jwks-ca", WANTED)?;
        Ok(Self { endpoint })
    }

    /// Fetches the body of an answer with status 200.
    pub(super) async fn get(&self) -> Result<Vec<u8>> {
        let stream = self.endpoint.connect(Arc::new(MAX_ANSWER.into())).await?;
        self.get_by(stream).await
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
        let path = self.endpoint.uri.path_and_query().map_or("/", |path| path.as_str());
        let authority = self.endpoint.uri.authority().context("the URL has no host")?;
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
        self.endpoint.uri.fmt(f)
    }
}
