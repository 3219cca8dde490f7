//! The address of a client, and the network by which limits count it.

use std::net::{IpAddr, SocketAddr};

use http::Request;

/// The client's address: the server puts it among the extensions of each request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer(pub SocketAddr);

impl Peer {
    /// The address of a request's client, if the server named it.
    pub(crate) fn address<B>(request: &Request<B>) -> Option<SocketAddr> {
        request.extensions().get::<Self>().map(|peer| peer.0)
    }
}

/// The network by which limits per address count: an IPv4 address itself, or the first 64 bits of an IPv6 address, which
/// one customer usually has alone.
pub fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() >> 64 << 64).into()),
        v4 => v4,
    }
}
