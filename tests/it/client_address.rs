//! The client's address behind proxies: by forwarding headers or the PROXY protocol, from trusted proxies only.

use plugnode_tests::{Node, within};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::operation::node;

/// The client address that a node logs for a session with these headers, after these first bytes of the connection.
async fn address_behind(node: &Node, first: &[u8], headers: &str) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", node.port()))
        .await
        .expect("the node listens");
    let opening = format!("GET /socket.io/?EIO=4&transport=polling HTTP/1.1\r\nHost: x\r\n{headers}\r\n");
    stream.write_all(&[first, opening.as_bytes()].concat()).await.ok()?;
    let mut answer = vec![0; 4_096];
    let length = within("it answers", stream.read(&mut answer)).await.ok()?;
    let answer = String::from_utf8_lossy(&answer[..length]).into_owned();
    let sid = answer.split("\"sid\":\"").nth(1)?.split('"').next()?.to_owned();
    // Further requests come through the same proxy; the session keeps its first address.
    let post = format!(
        "POST /socket.io/?EIO=4&transport=polling&sid={sid} HTTP/1.1\r\nHost: x\r\n{headers}Content-Length: 2\r\n\r\n40"
    );
    stream.write_all(post.as_bytes()).await.ok()?;
    let line = node.logged(&format!("session=\"{sid}\"")).await;
    let address = line.split("address=\"").nth(1)?;
    Some(address.split('"').next()?.to_owned())
}

#[tokio::test]
async fn trusted_proxy_headers_set_client_address() {
    let trusting = "[http]\ntrusted-proxies = [\"127.0.0.0/8\", \"10.0.0.1\"]\n[log]\nlevel = \"debug\"\n\
                    [io-node]\nmax-clients-per-address = 1";
    let (node, _folder) = node(trusting, "0").await;
    let x_forwarded_for = "X-Forwarded-For: 6.6.6.6, 203.0.113.7, 10.0.0.1\r\n";
    assert_eq!(
        address_behind(&node, b"", x_forwarded_for).await.as_deref(),
        Some("203.0.113.7")
    );
    assert_eq!(
        address_behind(&node, b"", x_forwarded_for).await,
        None,
        "the limit applies to that address"
    );
    let forwarded = "Forwarded: for=6.6.6.6, for=\"203.0.113.8:4711\";proto=https\r\n";
    assert_eq!(
        address_behind(&node, b"", forwarded).await.as_deref(),
        Some("203.0.113.8:4711")
    );
}

#[tokio::test]
async fn untrusted_proxy_headers_are_ignored() {
    let (node, _folder) = node("[log]\nlevel = \"debug\"", "0").await;
    let address = address_behind(&node, b"", "X-Forwarded-For: 203.0.113.7\r\n").await;
    assert!(address.is_some_and(|address| address.starts_with("127.0.0.1:")));
}

#[tokio::test]
async fn proxy_protocol_sets_client_address() {
    let settings = "[http]\nproxy-protocol = true\ntrusted-proxies = [\"127.0.0.1\"]\n[log]\nlevel = \"debug\"";
    let (node, _folder) = node(settings, "0").await;
    let line = b"PROXY TCP4 203.0.113.7 127.0.0.1 4711 80\r\n";
    assert_eq!(
        address_behind(&node, line, "").await.as_deref(),
        Some("203.0.113.7:4711")
    );
    let version_2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xcb\0\x71\x08\x7f\0\0\x01\x12\x67\0\x50";
    assert_eq!(
        address_behind(&node, version_2, "").await.as_deref(),
        Some("203.0.113.8:4711")
    );
    // A client behind the proxy cannot forge its address.
    let forged = "X-Forwarded-For: 6.6.6.6\r\n";
    assert_eq!(
        address_behind(&node, line, forged).await.as_deref(),
        Some("203.0.113.7:4711")
    );
    assert_eq!(
        address_behind(&node, b"", "").await,
        None,
        "a connection without a header is closed"
    );
    node.logged("does not begin with a header of the PROXY protocol").await;
}
