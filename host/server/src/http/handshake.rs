//! The handshake by which a connection becomes a WebSocket, as far as HTTP is concerned: who decides on it, and how the answer
//! is written.

use hyper::header::{CONNECTION, HeaderName, UPGRADE};
use hyper::{HeaderMap, Method, Request};

use super::stream::Stream;

/// Who takes WebSockets over, each as the raw stream of its frames.
pub trait WebSockets: Send + Sync {
    /// Accepts a handshake. One that is not accepted is a request to the HTTP service like any other.
    fn accept(&self, request: &mut Request<()>) -> Option<Accepted>;
}

/// A handshake that is accepted.
pub struct Accepted {
    /// The headers of the answer, whose status is 101.
    pub headers: HeaderMap,
    /// Takes the stream when the answer is written.
    pub open: Opener,
}

/// Takes the stream of a WebSocket.
pub type Opener = Box<dyn FnOnce(Stream) + Send>;

impl Accepted {
    /// The answer as it is on the wire.
    pub(super) fn answer(&self) -> Vec<u8> {
        let mut answer = b"HTTP/1.1 101 Switching Protocols\r\n".to_vec();
        for (name, value) in &self.headers {
            for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
                answer.extend_from_slice(part);
            }
        }
        answer.extend_from_slice(b"\r\n");
        answer
    }
}

/// Whether a request wants to become a WebSocket, be it in the right way or not.
pub(super) fn is_asked_for(method: &Method, headers: &HeaderMap) -> bool {
    method == Method::GET && names(headers, CONNECTION, "upgrade") && names(headers, UPGRADE, "websocket")
}

/// Whether a header that is a list names something.
fn names(headers: &HeaderMap, header: HeaderName, name: &str) -> bool {
    let lists = headers.get_all(header).iter().filter_map(|list| list.to_str().ok());
    lists
        .flat_map(|list| list.split(','))
        .any(|named| named.trim().eq_ignore_ascii_case(name))
}
