//! A bound port, with the certificate that it shows.

use std::io;
use std::net::SocketAddr;

use anyhow::{Context, Error, anyhow};
use tokio::net::{TcpListener, TcpSocket};

use super::tls::Tls;

/// Number of connections that the kernel holds until they are accepted.
const ACCEPT_QUEUE: u32 = 4096;

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

/// Listens on `host:port`; port 0 takes a free one. If the host has several addresses, it is the first that can be used.
///
/// # Errors
/// If the host has no address, or none can be used; the error is that of the first.
pub async fn bind(address: &str) -> anyhow::Result<TcpListener> {
    let found = tokio::net::lookup_host(address).await;
    let mut first_error = None;
    let not_found = || format!("cannot find the address {address}; correct its host");
    for address in found.with_context(not_found)? {
        match listen(address) {
            Ok(listener) => return Ok(listener),
            Err(error) => _ = first_error.get_or_insert(unusable(address, error)),
        }
    }
    Err(first_error.unwrap_or_else(|| Error::msg(not_found())))
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(ACCEPT_QUEUE)
}

fn unusable(address: SocketAddr, error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            anyhow!("cannot listen on {address}: address in use; stop the other process or choose another port")
        }
        io::ErrorKind::PermissionDenied => {
            anyhow!("cannot listen on {address}: permission denied; ports below 1024 need a privilege")
        }
        io::ErrorKind::AddrNotAvailable => {
            anyhow!(
                "cannot listen on {address}: no interface of this machine has the address; choose another [http] listen"
            )
        }
        _ => Error::new(error).context(format!("cannot listen on {address}")),
    }
}
