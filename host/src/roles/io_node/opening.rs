//! How a session was opened: what the apps are told when its clients connect, which may be long after.

use std::sync::Arc;

use http::Request;

use super::limits::Place;
use crate::http::Connection;
use crate::message::{Handshake, Text};

/// The request that opened a session, among the extensions of the request that the engine keeps for as long as the
/// session lives. The engine's own form of it takes thousands of bytes; this one takes hardly more than the text.
pub(super) struct Opening {
    /// The query and then each header in a line, name and value apart by `: `.
    text: Box<str>,
    websocket: bool,
    connection: Option<Arc<Connection>>,
    /// What its address has of what it may have.
    _place: Option<Place>,
}

impl Opening {
    /// What is to be kept of a request that opens a session.
    pub(super) fn of<B>(request: &Request<B>, place: Option<Place>) -> Arc<Self> {
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
        Arc::new(Self {
            text: text.into(),
            websocket: query.split('&').any(|pair| pair == "transport=websocket"),
            connection: request.extensions().get().cloned(),
            _place: place,
        })
    }

    /// What the apps are told of a client that connects with this `auth`.
    pub(super) fn handshake(&self, auth: Option<Text>) -> Handshake {
        let mut lines = self.text.split('\n');
        let query = lines.next().unwrap_or_default().to_owned();
        let headers = lines.filter_map(|line| line.split_once(": "));
        Handshake {
            auth,
            query,
            headers: headers
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect(),
            remote_addr: self
                .connection
                .as_ref()
                .and_then(|connection| connection.peer())
                .map(|peer| peer.to_string()),
            transport: match self.websocket {
                true => Text::from_static("websocket"),
                false => Text::from_static("polling"),
            },
            recovered: false,
        }
    }

    /// The connection that the request came on.
    pub(super) fn connection(&self) -> Option<Arc<Connection>> {
        self.connection.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_opening_is_told_as_it_was_asked() {
        let request = Request::get("/socket.io/?EIO=4&transport=websocket&page=a%20b")
            .header("user-agent", "one: two")
            .header("x-empty", "")
            .header("cookie", "a=1")
            .header("cookie", "b=2")
            .body(())
            .unwrap();
        let opening = Opening::of(&request, None);
        assert!(opening.connection().is_none());
        let handshake = opening.handshake(Some("{}".into()));
        assert_eq!(handshake.auth.as_deref(), Some("{}"));
        assert_eq!(handshake.query, "EIO=4&transport=websocket&page=a%20b");
        let headers = [
            ("user-agent", "one: two"),
            ("x-empty", ""),
            ("cookie", "a=1"),
            ("cookie", "b=2"),
        ];
        assert_eq!(
            handshake.headers,
            headers.map(|(name, value)| (name.into(), value.into()))
        );
        assert_eq!(handshake.transport, "websocket");
        let request = Request::get("/socket.io").body(()).unwrap();
        let handshake = Opening::of(&request, None).handshake(None);
        assert_eq!((handshake.query.as_str(), handshake.headers.len()), ("", 0));
        assert_eq!(handshake.transport, "polling");
    }
}
