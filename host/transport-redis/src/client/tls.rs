//! Reads and checks the PEM files for TLS, before the first connection.

use std::path::Path;

use redis::{Client, ClientTlsConfig, ConnectionAddr, TlsCertificates};

use crate::client::address::to_info;
use crate::error::unusable;
use crate::settings::TlsFiles;
use plugnode_transport::Result;

/// Reads the files. All CAs of a file are trusted.
pub(crate) fn certificates(files: &TlsFiles) -> Result<TlsCertificates> {
    // Fails if a provider is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client_tls = match (&files.cert, &files.key) {
        (None, None) => None,
        (Some(cert), Some(key)) => Some(ClientTlsConfig {
            client_cert: read(cert, "tls-cert", "CERTIFICATE-----")?,
            client_key: read(key, "tls-key", "PRIVATE KEY-----")?,
        }),
        _ => return Err(unusable("[transport] tls-cert and tls-key go together: name both")),
    };
    let ca = files.ca.as_ref();
    let root_cert = ca.map(|path| read(path, "tls-ca", "CERTIFICATE-----")).transpose()?;
    let certificates = TlsCertificates { client_tls, root_cert };
    // Building a client validates them.
    let address = ConnectionAddr::TcpTls {
        host: "localhost".into(),
        port: 1,
        insecure: false,
        tls_params: None,
    };
    let made = to_info(address).and_then(|info| Client::build_with_tls(info, certificates.clone()));
    match made {
        Ok(_) => Ok(certificates),
        Err(error) => Err(unusable(format!("[transport] tls-ca, tls-cert, tls-key: {error}"))),
    }
}

/// Reads a file that must contain a PEM header with this ending.
fn read(path: &Path, key: &str, ending: &str) -> Result<Vec<u8>> {
    let shown = path.display();
    let bytes =
        std::fs::read(path).map_err(|error| unusable(format!("[transport] {key}: cannot read {shown}: {error}")))?;
    if bytes.windows(ending.len()).any(|window| window == ending.as_bytes()) {
        return Ok(bytes);
    }
    let thing = ending.trim_end_matches('-').to_lowercase();
    Err(unusable(format!(
        "[transport] {key}: there is no {thing} in {shown}; name a PEM file"
    )))
}
