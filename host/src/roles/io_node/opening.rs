//! How a session was opened: what its clients' handshakes tell, kept small, since it lives as long as the session.

use std::sync::Arc;

use http::Request;
use http::request::Parts;

use crate::http::Connection;
use crate::message::{Handshake, Text};

/// The request that opened a session.
pub(super) struct Opening {
    query: String,
    headers: Vec<(String, String)>,
    connection: Option<Arc<Connection>>,
    websocket: bool,
}

impl Opening {
    pub(super) fn of<B>(request: &Request<B>) -> Arc<Self> {
        Self::new(request.uri(), request.headers(), request.extensions())
    }

    pub(super) fn of_parts(parts: &Parts) -> Arc<Self> {
        Self::new(&parts.uri, &parts.headers, &parts.extensions)
    }

    fn new(uri: &http::Uri, headers: &http::HeaderMap, extensions: &http::Extensions) -> Arc<Self> {
        let query = uri.query().unwrap_or_default().to_owned();
        let header = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
            (
                name.as_str().to_owned(),
                String::from_utf8_lossy(value.as_bytes()).into_owned(),
            )
        };
        Arc::new(Self {
            websocket: query.split('&').any(|pair| pair == "transport=websocket"),
            query,
            headers: headers.iter().map(header).collect(),
            connection: extensions.get::<Arc<Connection>>().cloned(),
        })
    }

    pub(super) fn handshake(&self, auth: Option<Text>) -> Handshake {
        Handshake {
            auth,
            query: self.query.clone(),
            headers: self.headers.clone(),
            remote_addr: self.connection.as_ref().map(|connection| connection.peer().to_string()),
            transport: match self.websocket {
                true => Text::from_static("websocket"),
                false => Text::from_static("polling"),
            },
            recovered: false,
        }
    }

    pub(super) fn connection(&self) -> Option<Arc<Connection>> {
        self.connection.clone()
    }

    pub(super) fn is_websocket(&self) -> bool {
        self.websocket
    }
}
