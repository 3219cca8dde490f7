//! Reads the header of the PROXY protocol, which names the client of a connection that a proxy opened. Versions 1 and 2:
//! <https://www.haproxy.org/download/3.2/doc/proxy-protocol.txt>.

use std::io;
use std::net::SocketAddr;

use ppp::{HeaderResult, v1, v2};
use tokio::io::{AsyncRead, AsyncReadExt};

/// The bytes that a header of version 2 begins with,
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// and its length without the part whose length it gives.
const FIXED_LENGTH: usize = 16;
/// Longest accepted variable part of version 2: addresses and some extensions.
const MAX_VARIABLE_LENGTH: usize = 4_096;
/// Longest header of version 1.
const MAX_LINE: usize = 107;

/// Reads the header, and no byte beyond it. Returns the client's address. None if the connection is the proxy's own, or the proxy
/// does not know the client.
///
/// # Errors
/// If the header is malformed, or the connection fails.
pub(super) async fn read_header(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<SocketAddr>> {
    let mut header = vec![0; SIGNATURE.len()];
    from.read_exact(&mut header).await?;
    if header == SIGNATURE {
        header.resize(FIXED_LENGTH, 0);
        from.read_exact(&mut header[SIGNATURE.len()..]).await?;
        let length = usize::from(u16::from_be_bytes([header[FIXED_LENGTH - 2], header[FIXED_LENGTH - 1]]));
        if length > MAX_VARIABLE_LENGTH {
            return Err(malformed());
        }
        header.resize(FIXED_LENGTH + length, 0);
        from.read_exact(&mut header[FIXED_LENGTH..]).await?;
    } else {
        // A line, read byte by byte so that nothing behind it is consumed. It comes once a connection.
        while !header.ends_with(b"\r\n") {
            if header.len() == MAX_LINE || !header.starts_with(b"PROXY ") {
                return Err(malformed());
            }
            header.push(from.read_u8().await?);
        }
    }
    parse(&header)
}

fn parse(header: &[u8]) -> io::Result<Option<SocketAddr>> {
    let client = match HeaderResult::parse(header) {
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
    Ok(client)
}

fn malformed() -> io::Error {
    let problem = "malformed header of the PROXY protocol; see [http] proxy-protocol and trusted-proxies";
    io::Error::new(io::ErrorKind::InvalidData, problem)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_version_2(command: u8, family: u8, addresses: &[u8]) -> Vec<u8> {
        let length = (addresses.len() as u16).to_be_bytes();
        [SIGNATURE, &[0x20 | command, family], &length, addresses].concat()
    }

    #[tokio::test]
    async fn reads_exactly_one_header_of_both_versions() {
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
            let client = read_header(&mut rest).await.unwrap();
            assert_eq!(client, expected.map(|address| address.parse().unwrap()), "{header:?}");
            assert_eq!(rest, b"GET / HTTP/1.1\r\n", "the bytes behind the header are left");
        }
    }

    #[tokio::test]
    async fn refuses_malformed_headers() {
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
        use plugnode_testing::arbitrary::{bytes, nearly};

        proptest! {
            #[test]
            fn arbitrary_bytes_do_not_panic(
                sent in prop_oneof![
                    nearly(Just(b"PROXY TCP4 203.0.113.7 10.0.0.1 4711 80\r\n".to_vec())),
                    nearly(Just(of_version_2(1, 0x11, &[203, 0, 113, 7, 10, 0, 0, 1, 0, 80, 0, 80]))),
                    bytes(60),
                ],
            ) {
                let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime can be made");
                let _ = runtime.block_on(read_header(&mut &sent[..]));
            }
        }
    }
}
