//! Settings and fixed limits of the HTTP server.

use std::time::Duration;

use super::tls::Tls;
use super::trusted_proxies::TrustedProxies;

/// Size of request line and headers in bytes. A larger head is answered with 431.
pub(super) const MAX_HEADER_SIZE: usize = 32 * 1024;

/// Settings of a port.
#[derive(Debug, Clone)]
pub struct HttpSettings {
    /// Number of connections. A further one is answered with 503 and closed: its client can try another node at once, and a
    /// health check sees that this one is full.
    pub max_connections: usize,
    /// Number of connections of one address. A further one is answered with 429 and closed. None: half of `max_connections`, and
    /// no limit for private and loopback addresses, which a proxy may have. IPv6 addresses count by their first 64 bits.
    pub max_connections_per_address: Option<usize>,
    /// Time for a peer to send the headers of a request, since the accept or the end of the last response. Silent connections
    /// end by it, too.
    pub header_timeout: Duration,
    /// How long a peer may take no byte of a response. While the process ends, it is 2 seconds at most. The owner of a WebSocket
    /// has limits of its own.
    pub write_timeout: Duration,
    /// Serves TLS only, if set.
    pub tls: Option<Tls>,
    /// Whether connections begin with a header of the PROXY protocol.
    pub proxy_protocol: bool,
    /// The proxies that send such headers. Empty: all peers.
    pub trusted_proxies: TrustedProxies,
}

impl Default for HttpSettings {
    fn default() -> Self {
        Self {
            max_connections: 10_000,
            max_connections_per_address: None,
            header_timeout: Duration::from_secs(10),
            write_timeout: Duration::from_secs(20),
            tls: None,
            proxy_protocol: false,
            trusted_proxies: TrustedProxies::default(),
        }
    }
}
