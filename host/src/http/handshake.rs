//! The handshake by which a connection becomes a WebSocket: who may want it, whether it is one, and its answer.
//!
//! RFC 6455, section 4.2. Extensions and subprotocols are not spoken.

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{
    self, CONNECTION, CONTENT_TYPE, HeaderName, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use hyper::upgrade::OnUpgrade;
use hyper::{HeaderMap, Method, Request, Response, StatusCode};
use tungstenite::handshake::derive_accept_key;

use super::stream::Stream;

/// Who takes WebSockets over, each as the raw stream of its frames.
pub trait WebSockets: Send + Sync {
    /// Whether the handshake is taken. One that is not is a request to the HTTP service like any other.
    fn takes(&self, request: &Request<()>) -> bool;

    /// The handshake was right and is answered; the stream is now its owner's.
    fn open(&self, stream: Stream, request: Request<()>);
}

/// What is wrong with a handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Wrong {
    #[error("this is the address of a WebSocket; ask for it with `connection: upgrade` and `upgrade: websocket`")]
    NoUpgrade,
    #[error("this WebSocket is spoken in version 13 of the protocol")]
    Version,
    #[error("the header sec-websocket-key is not 16 bytes in base64")]
    Key,
    #[error("a WebSocket's handshake has no body")]
    Body,
}

/// Answers a request that wants to become a WebSocket, and says what to wait for when it was right.
pub fn shake(request: &mut Request<()>) -> (Response<Full<Bytes>>, Option<OnUpgrade>) {
    match accept(request) {
        Ok(accept) => (answer(accept), Some(hyper::upgrade::on(request))),
        Err(wrong) => (wrong.answer(), None),
    }
}

/// The value of `sec-websocket-accept` for a request, when it is a handshake as it should be.
pub(super) fn accept<B>(request: &Request<B>) -> Result<HeaderValue, Wrong> {
    let headers = request.headers();
    if !is_asked_for(request.method(), headers) {
        return Err(Wrong::NoUpgrade);
    }
    if headers.get(SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
        return Err(Wrong::Version);
    }
    let key = headers.get(SEC_WEBSOCKET_KEY).map(HeaderValue::as_bytes);
    let key = key.filter(|key| is_key(key)).ok_or(Wrong::Key)?;
    if has_body(headers) {
        return Err(Wrong::Body);
    }
    Ok(HeaderValue::from_str(&derive_accept_key(key)).expect("base64 makes a header"))
}

/// Whether a request wants to become a WebSocket, be it in the right way or not.
pub(super) fn is_asked_for(method: &Method, headers: &HeaderMap) -> bool {
    method == Method::GET && names(headers, CONNECTION, "upgrade") && names(headers, UPGRADE, "websocket")
}

/// The answer to a handshake, in HTTP.
fn answer(accept: HeaderValue) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::default());
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = answer.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    answer
}

/// The same, as it is on the wire.
pub(super) fn answer_bytes(accept: &HeaderValue) -> Vec<u8> {
    const HEAD: &[u8] =
        b"HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-accept: ";
    [HEAD, accept.as_bytes(), b"\r\n\r\n"].concat()
}

impl Wrong {
    /// Says it to the peer.
    pub(super) fn answer(self) -> Response<Full<Bytes>> {
        let mut answer = Response::new(Full::from(format!("{self}\n")));
        *answer.status_mut() = match self {
            Self::NoUpgrade | Self::Version => StatusCode::UPGRADE_REQUIRED,
            Self::Key | Self::Body => StatusCode::BAD_REQUEST,
        };
        let headers = answer.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
        if matches!(self, Self::NoUpgrade | Self::Version) {
            headers.insert(CONNECTION, HeaderValue::from_static("upgrade, close"));
            headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
            headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        } else {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        answer
    }
}

fn has_body(headers: &HeaderMap) -> bool {
    let length = headers.get(header::CONTENT_LENGTH);
    headers.contains_key(header::TRANSFER_ENCODING) || length.is_some_and(|length| length != "0")
}

/// Whether a header that is a list names something.
fn names(headers: &HeaderMap, header: HeaderName, name: &str) -> bool {
    let lists = headers.get_all(header).iter().filter_map(|list| list.to_str().ok());
    lists
        .flat_map(|list| list.split(','))
        .any(|named| named.trim().eq_ignore_ascii_case(name))
}

/// Whether this is base64 of 16 bytes.
fn is_key(key: &[u8]) -> bool {
    let base64 = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/".contains(byte);
    matches!(key.strip_suffix(b"=="), Some(key) if key.len() == 22 && key.iter().all(base64))
}
