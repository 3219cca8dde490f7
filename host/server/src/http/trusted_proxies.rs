//! Who is behind a proxy: by the headers that it adds to requests, or by the PROXY protocol in front of a connection.
//!
//! Anybody can write such headers, so they count only as far as proxies have written them that are trusted: each adds the address
//! that it was reached from at the end of the list, and the last one that is no trusted proxy is the client. The PROXY protocol:
//! <https://www.haproxy.org/download/3.2/doc/proxy-protocol.txt>.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use hyper::HeaderMap;
use hyper::header::{FORWARDED, HeaderName};
use ipnet::IpNet;
use ppp::{HeaderResult, v1, v2};
use tokio::io::{AsyncRead, AsyncReadExt};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// What a header of version 2 begins with,
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// and how long it is without what it says of its length.
const FIXED: usize = 16;
/// The longest that is read of version 2: addresses, and some of what proxies tell besides.
const LONGEST: usize = 4_096;
/// The longest that version 1 can be.
const LONGEST_LINE: usize = 107;

/// The proxies whose word counts. Clones are the same.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrustedProxies(Arc<[IpNet]>);

impl TrustedProxies {
    /// Those in these networks.
    pub fn new(networks: Vec<IpNet>) -> Self {
        Self(networks.into())
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether one is at this address.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }

    /// Whose request this is that came from `peer` with these headers. The port is 0 where no proxy tells it.
    pub fn client(&self, peer: SocketAddr, headers: &HeaderMap) -> SocketAddr {
        if !self.contains(peer.ip()) {
            return peer;
        }
        let x_forwarded_for = || self.last_untrusted(peer, x_forwarded_for(headers));
        let forwarded = || self.last_untrusted(peer, forwarded(headers));
        match (headers.contains_key(&X_FORWARDED_FOR), headers.contains_key(FORWARDED)) {
            (false, false) => peer,
            (true, false) => x_forwarded_for(),
            (false, true) => forwarded(),
            // A proxy writes one of them and passes on what a client made up for the other. Which one cannot be told.
            (true, true) => match (x_forwarded_for(), forwarded()) {
                (one, other) if one.ip().to_canonical() == other.ip().to_canonical() => one,
                _ => peer,
            },
        }
    }

    /// Goes from hop to hop, from the nearest on, until one is not trusted, or is not told.
    fn last_untrusted(&self, peer: SocketAddr, hops: Vec<Option<SocketAddr>>) -> SocketAddr {
        let mut client = peer;
        for hop in hops.into_iter().rev() {
            match hop {
                Some(hop) if self.contains(client.ip()) => client = hop,
                _ => break,
            }
        }
        client
    }
}

/// The hops of `X-Forwarded-For`, the nearest last. None for one that is no address.
fn x_forwarded_for(headers: &HeaderMap) -> Vec<Option<SocketAddr>> {
    let lists = headers.get_all(X_FORWARDED_FOR).iter();
    let lists = lists.flat_map(|list| list.as_bytes().split(|byte| *byte == b','));
    lists.map(|hop| address(std::str::from_utf8(hop).ok()?)).collect()
}

/// The hops of `Forwarded` (RFC 7239), the nearest last. None for one that is no address.
fn forwarded(headers: &HeaderMap) -> Vec<Option<SocketAddr>> {
    let mut hops = Vec::new();
    for list in headers.get_all(FORWARDED) {
        let Ok(list) = list.to_str() else {
            hops.push(None);
            continue;
        };
        for element in split_unquoted(list, ',') {
            let pairs = split_unquoted(element, ';').into_iter();
            let of_client = pairs
                .filter_map(|pair| pair.split_once('='))
                .find(|(name, _)| name.trim().eq_ignore_ascii_case("for"));
            hops.push(of_client.and_then(|(_, value)| address(value.trim().trim_matches('"'))));
        }
    }
    hops
}

/// The parts of a text between separators that are in no quotes.
fn split_unquoted(text: &str, separator: char) -> Vec<&str> {
    let (mut is_quoted, mut is_escaped) = (false, false);
    text.split(|c: char| {
        let is_separator = c == separator && !is_quoted;
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' if is_quoted => is_escaped = true,
            '"' => is_quoted = !is_quoted,
            _ => {}
        }
        is_separator
    })
    .collect()
}

/// An address as proxies write it, with a port or without.
fn address(text: &str) -> Option<SocketAddr> {
    let text = text.trim();
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Some(address);
    }
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    let ip: IpAddr = bare.unwrap_or(text).parse().ok()?;
    Some(SocketAddr::new(ip, 0))
}

/// Reads a header of the PROXY protocol, and nothing beyond it. Gives the client that it names; none where it is the proxy's
/// own connection, or the proxy does not know.
///
/// # Errors
/// When something else comes, or the connection fails.
pub(super) async fn read_header(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<SocketAddr>> {
    let mut header = vec![0; SIGNATURE.len()];
    from.read_exact(&mut header).await?;
    if header == SIGNATURE {
        header.resize(FIXED, 0);
        from.read_exact(&mut header[SIGNATURE.len()..]).await?;
        let length = usize::from(u16::from_be_bytes([header[FIXED - 2], header[FIXED - 1]]));
        if length > LONGEST {
            return Err(malformed());
        }
        header.resize(FIXED + length, 0);
        from.read_exact(&mut header[FIXED..]).await?;
    } else {
        // A line, of which no more may be read than there is of it. Connections begin with it once.
        while !header.ends_with(b"\r\n") {
            if header.len() == LONGEST_LINE || !header.starts_with(b"PROXY ") {
                return Err(malformed());
            }
            header.push(from.read_u8().await?);
        }
    }
    named_in(&header)
}

fn named_in(header: &[u8]) -> io::Result<Option<SocketAddr>> {
    let named = match HeaderResult::parse(header) {
        HeaderResult::V1(Ok(header)) => match header.addresses {
            v1::Addresses::Tcp4(tcp) => Some(SocketAddr::new(tcp.source_address.into(), tcp.source_port)),
            v1::Addresses::Tcp6(tcp) => Some(SocketAddr::new(tcp.source_address.into(), tcp.source_port)),
            v1::Addresses::Unknown => None,
        },
        HeaderResult::V2(Ok(header)) => match (header.command, header.addresses) {
            (v2::Command::Local, _) => None,
            (v2::Command::Proxy, v2::Addresses::IPv4(ip)) => {
                Some(SocketAddr::new(ip.source_address.into(), ip.source_port))
            }
            (v2::Command::Proxy, v2::Addresses::IPv6(ip)) => {
                Some(SocketAddr::new(ip.source_address.into(), ip.source_port))
            }
            (v2::Command::Proxy, v2::Addresses::Unix(_) | v2::Addresses::Unspecified) => None,
        },
        HeaderResult::V1(Err(_)) | HeaderResult::V2(Err(_)) => return Err(malformed()),
    };
    Ok(named)
}

fn malformed() -> io::Error {
    let problem = "no header of the PROXY protocol; see [http] proxy-protocol and trusted-proxies";
    io::Error::new(io::ErrorKind::InvalidData, problem)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trusted() -> TrustedProxies {
        TrustedProxies::new(vec![
            "10.0.0.0/8".parse().unwrap(),
            "127.0.0.1/32".parse().unwrap(),
            "fd00::/8".parse().unwrap(),
        ])
    }

    fn client(peer: &str, headers: &[(&'static str, &str)]) -> String {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        trusted().client(peer.parse().unwrap(), &map).to_string()
    }

    #[test]
    fn last_hop_that_is_not_trusted_is_the_client() {
        let proxy = "10.0.0.1:999";
        for (list, expected) in [
            ("203.0.113.7", "203.0.113.7:0"),
            ("203.0.113.7:4711", "203.0.113.7:4711"),
            ("6.6.6.6, 203.0.113.7", "203.0.113.7:0"),
            ("6.6.6.6, 203.0.113.7, 10.0.0.2", "203.0.113.7:0"),
            ("6.6.6.6, 203.0.113.7,fd00::2", "203.0.113.7:0"),
            ("6.6.6.6, [2001:db8::1]:80, 10.0.0.2", "[2001:db8::1]:80"),
            ("2001:db8::1", "[2001:db8::1]:0"),
            ("::ffff:10.0.0.3", "[::ffff:10.0.0.3]:0"),
            ("6.6.6.6, ::ffff:10.0.0.3", "6.6.6.6:0"),
            // All are trusted: the farthest.
            ("10.0.0.3, 10.0.0.2", "10.0.0.3:0"),
            // Nobody knows what is before this.
            ("6.6.6.6, unknown, 10.0.0.2", "10.0.0.2:0"),
            ("6.6.6.6, ", "10.0.0.1:999"),
            ("", "10.0.0.1:999"),
        ] {
            assert_eq!(client(proxy, &[("x-forwarded-for", list)]), expected, "{list}");
        }
        let lines = [("x-forwarded-for", "6.6.6.6"), ("x-forwarded-for", "203.0.113.7")];
        assert_eq!(client(proxy, &lines), "203.0.113.7:0");
    }

    #[test]
    fn forwarded_is_read_with_its_quotes() {
        for (list, expected) in [
            ("for=203.0.113.7", "203.0.113.7:0"),
            ("For=\"203.0.113.7:4711\";proto=https;by=10.0.0.1", "203.0.113.7:4711"),
            (
                "for=6.6.6.6, by=\"a;b,\\\"c\";for=\"[2001:db8::1]:80\"",
                "[2001:db8::1]:80",
            ),
            ("for=203.0.113.7, for=10.0.0.2;proto=http", "203.0.113.7:0"),
            ("for=6.6.6.6, for=_hidden", "10.0.0.1:999"),
            ("for=6.6.6.6, proto=https", "10.0.0.1:999"),
            ("for=6.6.6.6, for=unknown, for=10.0.0.2", "10.0.0.2:0"),
        ] {
            assert_eq!(client("10.0.0.1:999", &[("forwarded", list)]), expected, "{list}");
        }
    }

    #[test]
    fn who_is_not_trusted_says_nothing() {
        assert_eq!(client("6.6.6.6:1", &[("x-forwarded-for", "1.2.3.4")]), "6.6.6.6:1");
        assert_eq!(client("6.6.6.6:1", &[("forwarded", "for=1.2.3.4")]), "6.6.6.6:1");
        assert_eq!(client("10.0.0.1:1", &[]), "10.0.0.1:1");
        let nobody = TrustedProxies::default();
        let headers = HeaderMap::from_iter([(X_FORWARDED_FOR, "1.2.3.4".parse().unwrap())]);
        let peer = "127.0.0.1:1".parse().unwrap();
        assert_eq!(nobody.client(peer, &headers), peer);
    }

    #[test]
    fn header_that_a_client_made_up_beside_the_proxys_counts_for_nothing() {
        let both = |one: &str, other: &str| client("10.0.0.1:9", &[("x-forwarded-for", one), ("forwarded", other)]);
        assert_eq!(both("203.0.113.7", "for=1.2.3.4"), "10.0.0.1:9");
        assert_eq!(both("203.0.113.7", "for=203.0.113.7"), "203.0.113.7:0");
    }

    fn of_version_2(command: u8, family: u8, addresses: &[u8]) -> Vec<u8> {
        let length = (addresses.len() as u16).to_be_bytes();
        [SIGNATURE, &[0x20 | command, family], &length, addresses].concat()
    }

    #[tokio::test]
    async fn both_versions_of_the_proxy_protocol_are_read_to_their_end() {
        let v4 = [&[203, 0, 113, 7, 10, 0, 0, 1][..], &[0x12, 0x67, 0, 80]].concat();
        let v6 = [&[0x20, 1, 0xd, 0xb8][..], &[0; 11], &[1], &[0; 16], &[0, 80, 0, 80]].concat();
        let with_more = [&v4[..], &[4, 0, 1, 0]].concat();
        for (header, expected) in [
            (
                b"PROXY TCP4 203.0.113.7 10.0.0.1 4711 80\r\n".to_vec(),
                Some("203.0.113.7:4711"),
            ),
            (
                b"PROXY TCP6 2001:db8::1 ::1 80 80\r\n".to_vec(),
                Some("[2001:db8::1]:80"),
            ),
            (b"PROXY UNKNOWN\r\n".to_vec(), None),
            (of_version_2(1, 0x11, &v4), Some("203.0.113.7:4711")),
            (of_version_2(1, 0x11, &with_more), Some("203.0.113.7:4711")),
            (of_version_2(1, 0x21, &v6), Some("[2001:db8::1]:80")),
            (of_version_2(0, 0x11, &v4), None),
            (of_version_2(1, 0, &[]), None),
        ] {
            let sent = [&header[..], b"GET / HTTP/1.1\r\n"].concat();
            let mut rest = &sent[..];
            let named = read_header(&mut rest).await.unwrap();
            assert_eq!(named, expected.map(|address| address.parse().unwrap()), "{header:?}");
            assert_eq!(rest, b"GET / HTTP/1.1\r\n", "what comes behind it is left");
        }
    }

    #[tokio::test]
    async fn what_is_no_header_is_refused() {
        let long = [b"PROXY TCP4 ".to_vec(), vec![b'1'; 200]].concat();
        for sent in [
            b"GET / HTTP/1.1\r\n\r\n".to_vec(),
            b"PROXY TCP4 203.0.113.7 10.0.0.1 4711 80".to_vec(),
            b"PROXY TCP4 203.0.113.7 10.0.0.1 99999 80\r\n".to_vec(),
            b"PROXY TCP9 1 2 3 4\r\n".to_vec(),
            of_version_2(1, 0x11, &[1, 2]),
            of_version_2(7, 0x11, &[0; 12]),
            [SIGNATURE, &[0x21, 0x11, 0xff, 0xff]].concat(),
            long,
            Vec::new(),
        ] {
            assert!(read_header(&mut &sent[..]).await.is_err(), "{sent:?}");
        }
    }

    mod arbitrary {
        use proptest::prelude::*;

        use super::*;
        use plugnode_testing::arbitrary::{bytes, nearly, nearly_text, one_of};

        proptest! {
            #[test]
            fn whatever_comes_is_an_address_or_refused(
                sent in prop_oneof![
                    nearly(Just(b"PROXY TCP4 203.0.113.7 10.0.0.1 4711 80\r\n".to_vec())),
                    nearly(Just(of_version_2(1, 0x11, &[203, 0, 113, 7, 10, 0, 0, 1, 0, 80, 0, 80]))),
                    bytes(60),
                ],
                list in nearly_text(one_of(&["1.2.3.4, 10.0.0.1", "for=\"[::1]:2\";by=\",;\", for=10.0.0.1", "\"\\"])),
            ) {
                let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime can be made");
                let _ = runtime.block_on(read_header(&mut &sent[..]));
                let Ok(value) = list.parse::<hyper::header::HeaderValue>() else { return Ok(()) };
                for name in [X_FORWARDED_FOR, FORWARDED] {
                    let headers = HeaderMap::from_iter([(name, value.clone())]);
                    let _ = trusted().client("10.0.0.1:1".parse().unwrap(), &headers);
                }
            }
        }
    }
}
