//! A bound port, with the certificate that it shows.

use tokio::net::TcpListener;

use super::tls::Tls;

/// A bound port. Without TLS it speaks plain HTTP.
pub struct Listener {
    pub(super) tcp: TcpListener,
    pub(super) tls: Option<Tls>,
}

impl Listener {
    /// A port that speaks only TLS, if it has any.
    pub fn new(tcp: TcpListener, tls: Option<Tls>) -> Self {
        Self { tcp, tls }
    }
}

impl From<TcpListener> for Listener {
    fn from(tcp: TcpListener) -> Self {
        Self::new(tcp, None)
    }
}
