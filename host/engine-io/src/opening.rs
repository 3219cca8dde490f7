//! The request that opened a session: kept once for as long as it lives, in little more than its text.

use std::net::{IpAddr, SocketAddr};

use http::Request;

/// The address of the other end of a connection, among the extensions of the requests that come on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer(pub SocketAddr);

/// What all of one customer share: an address of IPv4, or 64 bits of one of IPv6. Limits for an address count by it.
pub fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() >> 64 << 64).into()),
        v4 => v4,
    }
}

/// How a session was opened.
#[derive(Debug)]
pub struct Opening {
    /// The query, and then each header in a line, name and value apart by `: `.
    text: Box<str>,
    peer: Option<SocketAddr>,
    is_websocket: bool,
}

impl Opening {
    pub(crate) fn of<B>(request: &Request<B>, is_websocket: bool) -> Self {
        let query = request.uri().query().unwrap_or_default();
        let headers = || {
            let headers = request.headers().iter();
            headers.map(|(name, value)| (name.as_str(), String::from_utf8_lossy(value.as_bytes())))
        };
        let length: usize = headers().map(|(name, value)| name.len() + value.len() + 3).sum();
        let mut text = String::with_capacity(query.len() + length);
        text.push_str(query);
        for (name, value) in headers() {
            text.extend(["\n", name, ": ", &value]);
        }
        Self {
            text: text.into(),
            peer: request.extensions().get::<Peer>().map(|peer| peer.0),
            is_websocket,
        }
    }

    /// The query, as it was sent.
    pub fn query(&self) -> &str {
        self.text.split('\n').next().unwrap_or_default()
    }

    /// The headers, in their order, names in lower case.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &str)> {
        self.text.split('\n').skip(1).filter_map(|line| line.split_once(": "))
    }

    /// The other end of the connection, if the server named a [`Peer`].
    pub fn peer(&self) -> Option<SocketAddr> {
        self.peer
    }

    /// Whether the session began as a websocket.
    pub fn is_websocket(&self) -> bool {
        self.is_websocket
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opening_is_told_as_it_was_asked() {
        let peer = "127.0.0.1:80".parse().unwrap();
        let request = Request::get("/engine.io/?EIO=4&page=a%20b")
            .extension(Peer(peer))
            .header("User-Agent", "one: two")
            .header("x-empty", "")
            .header("cookie", "a=1")
            .header("cookie", "b=2")
            .body(())
            .unwrap();
        let opening = Opening::of(&request, true);
        assert_eq!(opening.query(), "EIO=4&page=a%20b");
        let headers = [
            ("user-agent", "one: two"),
            ("x-empty", ""),
            ("cookie", "a=1"),
            ("cookie", "b=2"),
        ];
        assert!(opening.headers().eq(headers));
        assert_eq!(opening.peer(), Some(peer));
        assert!(opening.is_websocket());
        let request = Request::get("/engine.io").body(()).unwrap();
        let opening = Opening::of(&request, false);
        assert_eq!(
            (opening.query(), opening.headers().count(), opening.peer()),
            ("", 0, None)
        );
    }
}
