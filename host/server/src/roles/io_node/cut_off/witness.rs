//! Asks another io-node, at its `/readyz`, how long ago it renewed its membership.
//!
//! Any https certificate is accepted: clients may know the port by another host name, and a wrong answer can at most make clients reconnect.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;

use crate::http::{NODE_HEADER, RENEWED_HEADER};
use plugnode_message::NodeId;
use plugnode_transport::IoNode;

/// Bytes of an answer that are read; the headers are among them.
const MAX_ANSWER: u64 = 4 << 10;
/// Headers that an answer may have.
const MAX_HEADERS: usize = 32;

/// Another io-node, and the URLs at which its `/readyz` may be.
pub(super) struct Witness {
    probes: Vec<Uri>,
}

/// The answer of an io-node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// It renewed its membership at this time or later.
    Renewed(Instant),
    /// It did not tell.
    None,
}

impl Witness {
    /// None if the node has no such URL.
    pub(super) fn of(node: &IoNode) -> Option<Self> {
        let probes: Vec<Uri> = node.probes.iter().filter_map(|probe| probe.parse().ok()).collect();
        (!probes.is_empty()).then_some(Self { probes })
    }

    /// Asks at one URL after the other until one answers. An answer of the node `own` does not count: this node may have the same address in
    /// its own network.
    pub(super) async fn ask(&self, own: &NodeId, within: Duration) -> Answer {
        let asking = async {
            for probe in &self.probes {
                let asked = Instant::now();
                match read(probe).await.ok().and_then(|answer| renewed(&answer, own)) {
                    Some(age) => return Answer::Renewed(asked.checked_sub(age).unwrap_or(asked)),
                    None => continue,
                }
            }
            Answer::None
        };
        timeout(within, asking).await.unwrap_or(Answer::None)
    }
}

async fn read(probe: &Uri) -> io::Result<Vec<u8>> {
    let host = probe.host().ok_or(io::ErrorKind::InvalidInput)?;
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let is_https = probe.scheme_str() == Some("https");
    let port = probe.port_u16().unwrap_or(if is_https { 443 } else { 80 });
    let tcp = TcpStream::connect((host.as_str(), port)).await?;
    if !is_https {
        return exchange(tcp, probe).await;
    }
    let name = ServerName::try_from(host).map_err(io::Error::other)?;
    let connector = TlsConnector::from(Arc::new(tls()?));
    exchange(connector.connect(name, tcp).await?, probe).await
}

async fn exchange(mut stream: impl AsyncRead + AsyncWrite + Unpin, probe: &Uri) -> io::Result<Vec<u8>> {
    let (path, host) = (
        probe.path(),
        probe.authority().map_or("", |authority| authority.as_str()),
    );
    let question = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
    stream.write_all(question.as_bytes()).await?;
    stream.flush().await?;
    let mut answer = Vec::new();
    let ended = (&mut stream).take(MAX_ANSWER).read_to_end(&mut answer).await;
    match ended {
        // Some servers end TLS without a close notification.
        Err(error) if answer.is_empty() => Err(error),
        _ => Ok(answer),
    }
}

/// How long ago the node that gave this answer renewed its membership. None if it is the node `own`.
fn renewed(answer: &[u8], own: &NodeId) -> Option<Duration> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    response.parse(answer).ok()?;
    let value = |name: &str| {
        let header = response
            .headers
            .iter()
            .find(|header| header.name.eq_ignore_ascii_case(name))?;
        std::str::from_utf8(header.value).ok()
    };
    if value(NODE_HEADER)? == own.as_str() {
        return None;
    }
    Some(Duration::from_millis(value(RENEWED_HEADER)?.parse().ok()?))
}

fn tls() -> io::Result<ClientConfig> {
    let provider = Arc::new(ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?;
    Ok(config
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
        .with_no_client_auth())
}

/// Accepts any certificate.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use bytes::Bytes;
    use http_body_util::Full;
    use hyper::body::Incoming;
    use hyper::service::service_fn;
    use hyper::{Request, Response};

    use super::*;
    use crate::http::testing::certificate;
    use crate::http::{Health, HttpSettings, Listener, Readiness, Tls, bind, serve};
    use plugnode_process::shutdown::Shutdown;

    const SOON: Duration = Duration::from_secs(10);
    const AGE: Duration = Duration::from_millis(35);

    #[tokio::test]
    async fn asks_witness_by_http_and_https() {
        let folder = tempfile::tempdir().unwrap();
        let (certificate, key) = certificate(folder.path());
        for tls in [None, Some(Tls::read(&certificate, &key).unwrap())] {
            let scheme = if tls.is_some() { "https" } else { "http" };
            let shutdown = Shutdown::new();
            let inner = service_fn(|_: Request<Incoming>| async {
                Ok::<_, Infallible>(Response::new(Full::<Bytes>::default()))
            });
            let ready = || Readiness {
                problem: None,
                renewed: Some(("io-2".into(), AGE)),
            };
            let health = Health::new(inner, Arc::new(ready), shutdown.clone());
            let listener = bind("127.0.0.1:0").await.unwrap();
            let port = listener.local_addr().unwrap().port();
            let (listener, ending) = (Listener::new(listener, tls), shutdown.clone());
            let settings = HttpSettings::default();
            shutdown.spawn(async move { serve(listener, health, &settings, ending).await });
            let witness = Witness::of(&IoNode {
                port,
                probes: vec![format!("{scheme}://127.0.0.1:{port}/readyz")],
                ..IoNode::without_address("io-2")
            });
            let witness = witness.unwrap();
            let asked = Instant::now();
            let answer = witness.ask(&"io-1".into(), SOON).await;
            assert!(
                matches!(answer, Answer::Renewed(at) if at + AGE >= asked),
                "{scheme}: {answer:?}"
            );
            assert_eq!(witness.ask(&"io-2".into(), SOON).await, Answer::None, "it is this node");
            shutdown.begin();
        }
    }

    #[test]
    fn reads_renewal_from_answer_of_another_node() {
        let own = NodeId::from("io-1");
        let answer = |node: &str| {
            format!(
                "HTTP/1.1 503 Service Unavailable\r\nPlugnode-Node: {node}\r\nplugnode-renewed-ms: 35\r\n\r\nbusy\n"
            )
        };
        assert_eq!(
            renewed(answer("io-2").as_bytes(), &own),
            Some(Duration::from_millis(35))
        );
        assert_eq!(renewed(answer("io-1").as_bytes(), &own), None, "it is this node");
        for foreign in ["HTTP/1.1 200 OK\r\n\r\nok\n", "SSH-2.0-OpenSSH\r\n", ""] {
            assert_eq!(renewed(foreign.as_bytes(), &own), None, "{foreign:?}");
        }
    }
}
