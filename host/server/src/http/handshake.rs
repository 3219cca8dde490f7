//! The HTTP side of a WebSocket handshake: the trait that accepts it, and the response.

use hyper::header::{CONNECTION, HeaderName, UPGRADE};
use hyper::{HeaderMap, Method, Request};

use super::stream::Stream;

/// Takes over WebSockets, each as the raw stream of its frames.
pub trait WebSockets: Send + Sync {
    /// Accepts a handshake. None: the request goes to the HTTP service like any other.
    fn accept(&self, request: &mut Request<()>) -> Option<Accepted>;
}

/// An accepted handshake.
pub struct Accepted {
    /// The headers of the response, which has status 101.
    pub headers: HeaderMap,
    /// Called with the stream when the response is written.
    pub open: Opener,
}

/// Takes the stream of a WebSocket.
pub type Opener = Box<dyn FnOnce(Stream) + Send>;

impl Accepted {
    /// The response as bytes.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = b"HTTP/1.1 101 Switching Protocols\r\n".to_vec();
        for (name, value) in &self.headers {
            for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
                bytes.extend_from_slice(part);
            }
        }
        bytes.extend_from_slice(b"\r\n");
        bytes
    }
}

/// Whether a request asks for a WebSocket, correctly or not.
pub(super) fn is_requested(method: &Method, headers: &HeaderMap) -> bool {
    method == Method::GET && lists(headers, CONNECTION, "upgrade") && lists(headers, UPGRADE, "websocket")
}

/// Whether a header with a comma-separated list contains `name`.
fn lists(headers: &HeaderMap, header: HeaderName, name: &str) -> bool {
    let lists = headers.get_all(header).iter().filter_map(|list| list.to_str().ok());
    lists
        .flat_map(|list| list.split(','))
        .any(|named| named.trim().eq_ignore_ascii_case(name))
}
