//! For unit tests: streams without a server, certificates, and TLS clients.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::connection::Connection;
use super::stream::Stream;
use super::transport_stream::TransportStream;

const SOON: Duration = Duration::from_secs(10);

/// A stream and its peer.
pub async fn pair() -> (Stream, TcpStream) {
    let (tcp, peer) = tcp_pair().await;
    (
        Stream::new(TransportStream::Plain(tcp), Connection::new(None), None),
        peer,
    )
}

async fn tcp_pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let peer = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    (listener.accept().await.unwrap().0, peer)
}

/// Reads, and expects these bytes.
pub async fn hears(peer: &mut (impl AsyncRead + Unpin), expected: &[u8]) {
    let mut heard = vec![0; expected.len()];
    timeout(SOON, peer.read_exact(&mut heard))
        .await
        .expect("bytes come")
        .unwrap();
    assert_eq!(heard, expected);
}

/// A TLS client that trusts only this certificate.
pub fn trusting(certificate: &Path) -> TlsConnector {
    let mut roots = rustls::RootCertStore::empty();
    let trusted = rustls::pki_types::pem::PemObject::from_pem_file(certificate).unwrap();
    roots.add(trusted).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    TlsConnector::from(Arc::new(config))
}

/// Creates a certificate for localhost and its key.
pub fn certificate(folder: &Path) -> (PathBuf, PathBuf) {
    let arguments = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost \
                     -addext subjectAltName=DNS:localhost -addext basicConstraints=critical,CA:FALSE \
                     -keyout server.key -out server.crt";
    let output = Command::new("openssl")
        .args(arguments.split_whitespace())
        .current_dir(folder)
        .output()
        .expect("cannot run openssl: install it, or run .ci/setup-tests");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "openssl failed:\n{said}");
    (folder.join("server.crt"), folder.join("server.key"))
}
