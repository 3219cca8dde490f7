//! The head of a connection's first request, read by ourselves.
//!
//! hyper keeps its buffers and its state for as long as a connection lives, also when that became a WebSocket at once.
//! So the first request is read before hyper is there. What does not ask for a WebSocket, or is odd in any way, is left
//! for hyper to judge: its limits are the same.

use std::io;

use bytes::{Bytes, BytesMut};
use hyper::header::{HeaderName, HeaderValue};
use hyper::{HeaderMap, Method, Request, Uri, Version};
use tokio::io::AsyncReadExt;

use super::stream::Stream;
use super::{MAX_HEADER_SIZE, handshake};

/// Most heads fit.
const FIRST_BUFFER: usize = 1_024;
/// hyper's limit.
const MAX_HEADERS: usize = 100;

/// What came first on a connection.
pub(super) struct First {
    /// All that was read.
    pub(super) bytes: Bytes,
    /// The request that these bytes begin with, when it asks for a WebSocket, and how many of them it is.
    pub(super) request: Option<(Request<()>, usize)>,
}

/// Reads the head of the first request, and maybe something of what comes after it.
///
/// # Errors
/// When the stream fails.
pub(super) async fn read(stream: &mut Stream) -> io::Result<First> {
    let mut read = BytesMut::with_capacity(FIRST_BUFFER);
    let mut request = None;
    while read.len() < MAX_HEADER_SIZE {
        let before = read.len();
        if stream.read_buf(&mut read).await? == 0 {
            break;
        }
        if holds_an_end(&read[before.saturating_sub(END.len() - 1)..]) {
            request = parse(&read);
            break;
        }
    }
    let bytes = read.freeze();
    Ok(First { bytes, request })
}

/// What a head ends with, and what hyper takes for the same.
const END: &[u8] = b"\n\r\n";
const BARE_END: &[u8] = b"\n\n";

fn holds_an_end(bytes: &[u8]) -> bool {
    let holds = |end: &[u8]| bytes.windows(end.len()).any(|window| window == end);
    holds(END) || holds(BARE_END)
}

/// A head that asks for a WebSocket, and its length.
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
    if !handshake::is_asked_for(&Method::GET, &map) {
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
            fn whatever_comes_is_left_to_hyper_or_is_a_handshake(sent in prop_oneof![3 => nearly(head()), 1 => bytes(300)]) {
                let (parsed, peak) = peak(|| parse(&sent));
                prop_assert!(peak <= 64 * sent.len() as u64 + 4_096, "{peak} bytes for {}", sent.len());
                let Some((request, length)) = parsed else { return Ok(()) };
                prop_assert!(length <= sent.len());
                prop_assert!(holds_an_end(&sent[..length]), "{:?}", &sent[..length]);
                prop_assert!(!holds_an_end(&sent[..length - 1]), "it goes on behind the head's end");
                prop_assert!(handshake::is_asked_for(request.method(), request.headers()));
            }
        }
    }
}
