//! The websocket handshake. RFC 6455, section 4.2. Of the subprotocols that a client offers the first is selected, as Node's
//! server does; extensions are not supported.

use http::header::{
    self, CONNECTION, HeaderName, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::{HeaderMap, Method, Request};
use tungstenite::handshake::derive_accept_key;

/// Whether a request asks for a websocket, by a valid handshake or not.
pub(crate) fn is_requested<B>(request: &Request<B>) -> bool {
    let headers = request.headers();
    request.method() == Method::GET && lists(headers, CONNECTION, "upgrade") && lists(headers, UPGRADE, "websocket")
}

/// The headers of the response. None when the handshake is invalid.
pub(crate) fn response_headers<B>(request: &Request<B>) -> Option<HeaderMap> {
    let headers = request.headers();
    let key = headers.get(SEC_WEBSOCKET_KEY).map(HeaderValue::as_bytes);
    let key = key.filter(|key| is_key(key))?;
    if !is_requested(request) || headers.get(SEC_WEBSOCKET_VERSION)? != "13" || has_body(headers) {
        return None;
    }
    let mut response = HeaderMap::with_capacity(4);
    response.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    response.insert(UPGRADE, HeaderValue::from_static("websocket"));
    response.insert(
        SEC_WEBSOCKET_ACCEPT,
        HeaderValue::from_str(&derive_accept_key(key)).ok()?,
    );
    if let Some(protocol) = list(headers, SEC_WEBSOCKET_PROTOCOL).find(|protocol| !protocol.is_empty()) {
        response.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_str(protocol).ok()?);
    }
    Some(response)
}

fn has_body(headers: &HeaderMap) -> bool {
    let length = headers.get(header::CONTENT_LENGTH);
    headers.contains_key(header::TRANSFER_ENCODING) || length.is_some_and(|length| length != "0")
}

fn lists(headers: &HeaderMap, header: HeaderName, value: &str) -> bool {
    list(headers, header).any(|listed| listed.eq_ignore_ascii_case(value))
}

fn list(headers: &HeaderMap, header: HeaderName) -> impl Iterator<Item = &str> {
    let lists = headers
        .get_all(header)
        .into_iter()
        .filter_map(|list| list.to_str().ok());
    lists.flat_map(|list| list.split(',')).map(str::trim)
}

/// Whether a key is the base64 of 16 bytes.
fn is_key(key: &[u8]) -> bool {
    let base64 = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/".contains(byte);
    matches!(key.strip_suffix(b"=="), Some(key) if key.len() == 22 && key.iter().all(base64))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(change: impl FnOnce(&mut HeaderMap)) -> Request<()> {
        let mut request = Request::get("/")
            .header("connection", "keep-alive, Upgrade")
            .header("upgrade", "WebSocket")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
            .header("sec-websocket-protocol", "one, two")
            .body(())
            .unwrap();
        change(request.headers_mut());
        request
    }

    #[test]
    fn valid_handshake_is_answered() {
        let headers = response_headers(&request(|_| {})).unwrap();
        assert_eq!(headers["sec-websocket-accept"], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(headers["sec-websocket-protocol"], "one");
    }

    #[test]
    fn invalid_handshakes_are_refused() {
        for (header, value) in [
            ("connection", "keep-alive"),
            ("upgrade", "h2c"),
            ("sec-websocket-version", "8"),
            ("sec-websocket-key", "short"),
            ("content-length", "1"),
        ] {
            let request = request(|headers| {
                headers.insert(header, HeaderValue::from_static(value));
            });
            assert_eq!(response_headers(&request), None, "{header}");
        }
    }
}
