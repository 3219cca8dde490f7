//! Settings of the HTTP server, `[http]`, and its fixed limits.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use plugnode_settings::Millis;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::tls::Tls;
use super::trusted_proxies::TrustedProxies;

/// Size of request line and headers in bytes. A larger head is answered with 431.
pub(super) const MAX_HEADER_SIZE: usize = 32 * 1024;

/// Settings of the port that clients reach: `[http]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct HttpSettings {
    /// Address and port to listen on; port 0 takes a free one. The old variables `HTTP_HOST` and `HTTP_PORT` set it too.
    pub listen: String,
    /// Connections open at once. One more is answered 503 and closed, so that its client can try another io-node. The
    /// process's hard limit of open files must allow as many.
    pub max_connections: usize,
    /// Connections open at once from one address; one more is answered 429. An IPv6 address counts by its first 64 bits.
    /// Unset: half of `max-connections`, and no limit for private and loopback addresses, which a proxy or a load test has.
    /// When set, it holds for these too.
    #[schemars(example = 5000)]
    pub max_connections_per_address: Option<usize>,
    /// Time for a client to send the headers of a request, and for a kept-alive connection to begin its next request.
    #[serde(rename = "header-timeout-ms", with = "Millis")]
    pub header_timeout: Duration,
    /// Time for a client to send the body of a request.
    #[serde(rename = "body-timeout-ms", with = "Millis")]
    pub body_timeout: Duration,
    /// Time without progress: a client that takes no byte of a response for this long is closed; a slow one that takes some
    /// stays. While the process ends, it is 2 seconds at most. WebSockets and polls have `io-node.send-timeout-ms` besides.
    #[serde(rename = "write-timeout-ms", with = "Millis")]
    pub write_timeout: Duration,
    /// PEM file with the certificate, followed by its chain. With it and `tls-key` the port speaks https and wss only. The
    /// files are read again when they change, and on SIGHUP, also under other names, for new connections. Unset: plain HTTP.
    #[schemars(example = &"https.pem")]
    pub tls_cert: Option<PathBuf>,
    /// PEM file with the private key of `tls-cert`.
    #[schemars(example = &"https.key")]
    pub tls_key: Option<PathBuf>,
    /// Proxies in front of this port, as networks or addresses: `["10.0.0.0/8", "127.0.0.1"]`. In requests from these,
    /// `X-Forwarded-For` and `Forwarded` give the client's address: the last hop that is not a trusted proxy. Limits per
    /// address, the log and handlers then use that address. From other senders the headers are ignored, and when a request
    /// has both and they disagree, the proxy's address counts.
    pub trusted_proxies: TrustedProxies,
    /// Expect a PROXY protocol header (version 1 or 2) with the client's address at the start of each connection, before TLS:
    /// from `trusted-proxies`, or from every sender while that list is empty. A connection without the header is closed.
    pub proxy_protocol: bool,
}

impl HttpSettings {
    /// Reads the certificate and its key. None if the port speaks plain HTTP.
    ///
    /// # Errors
    /// If a file cannot be read or used.
    pub fn read_tls(&self) -> anyhow::Result<Option<Tls>> {
        match (&self.tls_cert, &self.tls_key) {
            (Some(certificate), Some(key)) => Tls::read(certificate, key)
                .map(Some)
                .context("[http] tls-cert, tls-key"),
            _ => Ok(None),
        }
    }

    /// The scheme of its URLs.
    pub fn scheme(&self) -> &'static str {
        match self.tls_cert {
            Some(_) => "https",
            None => "http",
        }
    }
}

impl Default for HttpSettings {
    fn default() -> Self {
        Self {
            listen: "0.0.0.0:8080".into(),
            max_connections: 10_000,
            max_connections_per_address: None,
            header_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(10),
            write_timeout: Duration::from_secs(20),
            tls_cert: None,
            tls_key: None,
            trusted_proxies: TrustedProxies::default(),
            proxy_protocol: false,
        }
    }
}
