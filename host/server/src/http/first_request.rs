//! Reads the head of a connection's first request, to recognize a WebSocket handshake without hyper.
//!
//! hyper keeps its buffers and state as long as a connection lives, also if it became a WebSocket at once. A first request that is
//! no handshake, or is malformed in any way, is left to hyper, which has the same limits.

use std::io;

use bytes::{Bytes, BytesMut};
use hyper::header::{HeaderName, HeaderValue};
use hyper::{HeaderMap, Method, Request, Uri, Version};
use tokio::io::AsyncReadExt;

use super::handshake;
use super::settings::MAX_HEADER_SIZE;
use super::stream::Stream;

/// Initial size of the buffer in bytes. Most heads fit.
const FIRST_BUFFER: usize = 1_024;
/// Number of headers, as hyper's limit.
const MAX_HEADERS: usize = 100;

/// The first bytes of a connection.
pub(super) struct FirstRequest {
    /// All bytes that were read.
    pub(super) bytes: Bytes,
    /// If they begin with a WebSocket handshake: the request and its length in bytes.
    pub(super) handshake: Option<(Request<()>, usize)>,
}

/// Reads the head of the first request, and possibly bytes after it.
///
/// # Errors
/// If the stream fails.
pub(super) async fn read(stream: &mut Stream) -> io::Result<FirstRequest> {
    let mut read = BytesMut::with_capacity(FIRST_BUFFER);
    let mut handshake = None;
    while read.len() < MAX_HEADER_SIZE {
        let before = read.len();
        if stream.read_buf(&mut read).await? == 0 {
            break;
        }
        if contains_end(&read[before.saturating_sub(END.len() - 1)..]) {
            handshake = parse(&read);
            break;
        }
    }
    let bytes = read.freeze();
    Ok(FirstRequest { bytes, handshake })
}

/// The end of a head, and the variant that hyper accepts as well.
const END: &[u8] = b"\n\r\n";
const BARE_END: &[u8] = b"\n\n";

fn contains_end(bytes: &[u8]) -> bool {
    let contains = |end: &[u8]| bytes.windows(end.len()).any(|window| window == end);
    contains(END) || contains(BARE_END)
}

/// Parses a head that asks for a WebSocket. Returns the request and its length.
fn parse(bytes: &[u8]) -> Option<(Request<()>, usize)> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut head = httparse::Request::new(&mut headers);
    let httparse::Status::Complete(length) = head.parse(bytes).ok()? else {
        return None;
    };
    if head.method? != Method::GET.as_str() || head.version? != 1 {
        return None;
    }
    let mut map = HeaderMap::with_capacity(head.headers.len());
    for header in head.headers {
        let name = HeaderName::from_bytes(header.name.as_bytes()).ok()?;
        map.append(name, HeaderValue::from_bytes(header.value).ok()?);
    }
    if !handshake::is_requested(&Method::GET, &map) {
        return None;
    }
    let mut request = Request::new(());
    *request.uri_mut() = head.path?.parse::<Uri>().ok()?;
    *request.version_mut() = Version::HTTP_11;
    *request.headers_mut() = map;
    Some((request, length))
}

#[cfg(test)]
mod tests {
    mod arbitrary {
        use proptest::collection::vec;
        use proptest::prelude::*;

        use super::super::*;
        use plugnode_testing::arbitrary::{bytes, nearly, one_of, peak, text};

        fn head() -> impl Strategy<Value = Vec<u8>> {
            let method = one_of(&["GET", "POST", "OPTIONS", "get"]);
            let target = one_of(&[
                "/socket.io/?EIO=4&transport=websocket",
                "/",
                "*",
                "http://x/",
                "//",
                "/?%",
                "/\u{e9}",
            ]);
            let version = one_of(&["HTTP/1.1", "HTTP/1.0", "HTTP/2.0"]);
            let known = one_of(&[
                "Host: x",
                "connection: keep-alive, Upgrade",
                "Upgrade: WebSocket",
                "Sec-WebSocket-Version: 13",
                "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
                "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZ===",
                "Content-Length: 0",
                "Content-Length: 18446744073709551616",
                "Transfer-Encoding: chunked",
            ]);
            let line =
                prop_oneof![4 => known, 1 => (text(), text()).prop_map(|(name, value)| format!("{name}: {value}"))];
            let end = one_of(&["\r\n", "\r\n", "\n"]);
            let asks = any::<bool>();
            (method, target, version, vec(line, 0..12), end, asks, bytes(20)).prop_map(
                |(method, target, version, mut lines, end, asks, behind)| {
                    if asks {
                        lines.extend(["Connection: Upgrade".into(), "Upgrade: websocket".into()]);
                    }
                    let head = format!("{method} {target} {version}{end}{}{end}{end}", lines.join(&end));
                    [head.into_bytes(), behind].concat()
                },
            )
        }

        proptest! {
            #[test]
            fn arbitrary_bytes_are_left_to_hyper_or_a_handshake(sent in prop_oneof![3 => nearly(head()), 1 => bytes(300)]) {
                let (parsed, peak) = peak(|| parse(&sent));
                prop_assert!(peak <= 64 * sent.len() as u64 + 4_096, "{peak} bytes for {}", sent.len());
                let Some((request, length)) = parsed else { return Ok(()) };
                prop_assert!(length <= sent.len());
                prop_assert!(contains_end(&sent[..length]), "{:?}", &sent[..length]);
                prop_assert!(!contains_end(&sent[..length - 1]), "it continues after the end of the head");
                prop_assert!(handshake::is_requested(request.method(), request.headers()));
            }
        }
    }
}
