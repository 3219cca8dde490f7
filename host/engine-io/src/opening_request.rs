//! The request that opened a session. It is kept as long as the session lives, in little more than its text.

use std::net::SocketAddr;

use http::Request;

use crate::peer::Peer;

/// The request that opened a session.
#[derive(Debug)]
pub struct OpeningRequest {
    /// The query, and then one line `name: value` for each header.
    text: Box<str>,
    peer: Option<SocketAddr>,
    is_websocket: bool,
}

impl OpeningRequest {
    pub(crate) fn new<B>(request: &Request<B>, is_websocket: bool) -> Self {
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
            peer: Peer::address(request),
            is_websocket,
        }
    }

    /// The query, as it was sent.
    pub fn query(&self) -> &str {
        self.text.split('\n').next().unwrap_or_default()
    }

    /// The headers in their order, names in lower case.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &str)> {
        self.text.split('\n').skip(1).filter_map(|line| line.split_once(": "))
    }

    /// The client's address, if the server named it by [`Peer`].
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
    fn keeps_query_headers_and_peer() {
        let peer = "127.0.0.1:80".parse().unwrap();
        let request = Request::get("/engine.io/?EIO=4&page=a%20b")
            .extension(Peer(peer))
            .header("User-Agent", "one: two")
            .header("x-empty", "")
            .header("cookie", "a=1")
            .header("cookie", "b=2")
            .body(())
            .unwrap();
        let opening = OpeningRequest::new(&request, true);
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
        let opening = OpeningRequest::new(&request, false);
        assert_eq!(
            (opening.query(), opening.headers().count(), opening.peer()),
            ("", 0, None)
        );
    }
}
