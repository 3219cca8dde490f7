//! Finds the client's address behind proxies, from the headers `X-Forwarded-For` and `Forwarded`.
//!
//! Clients can forge these headers, so only entries of trusted proxies count. Each proxy appends the address of its peer: the last
//! address that is not a trusted proxy is the client.

use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use hyper::HeaderMap;
use hyper::header::{FORWARDED, HeaderName};
use ipnet::IpNet;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The networks of trusted proxies, in the configuration a list of networks and addresses. Clones share them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrustedProxies(Arc<[IpNet]>);

impl TrustedProxies {
    /// Whether no proxy is trusted.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether this is the address of a trusted proxy.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }

    /// The client of a request from `peer` with these headers. The port is 0 if no proxy gives it.
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
            // A proxy writes one of them and may pass on a forged other one. Which is which cannot be known.
            (true, true) => match (x_forwarded_for(), forwarded()) {
                (one, other) if one.ip().to_canonical() == other.ip().to_canonical() => one,
                _ => peer,
            },
        }
    }

    /// Follows the hops, from the nearest, until one is not trusted or not known.
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

/// The hops of `X-Forwarded-For`, the nearest last. None for an entry that is not an address.
fn x_forwarded_for(headers: &HeaderMap) -> Vec<Option<SocketAddr>> {
    let lists = headers.get_all(X_FORWARDED_FOR).iter();
    let lists = lists.flat_map(|list| list.as_bytes().split(|byte| *byte == b','));
    lists.map(|hop| address(std::str::from_utf8(hop).ok()?)).collect()
}

/// The hops of `Forwarded` (RFC 7239), the nearest last. None for an entry without an address.
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

/// Splits a text at separators outside quotes.
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

/// Parses an address as proxies write it, with or without a port.
fn address(text: &str) -> Option<SocketAddr> {
    let text = text.trim();
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Some(address);
    }
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    let ip: IpAddr = bare.unwrap_or(text).parse().ok()?;
    Some(SocketAddr::new(ip, 0))
}

/// A network such as `10.0.0.0/8`, or a single address.
struct Network(IpNet);

impl<'de> Deserialize<'de> for Network {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(NetworkVisitor)
    }
}

/// Refuses a text while it is visited, so that the error has its line.
struct NetworkVisitor;

impl de::Visitor<'_> for NetworkVisitor {
    type Value = Network;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a network such as \"10.0.0.0/8\" or an address")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Network, E> {
        let network = text.trim().parse::<IpNet>();
        let network = network.or_else(|_| text.trim().parse::<IpAddr>().map(IpNet::from));
        network.map(Network).map_err(|_| {
            E::custom(format_args!(
                "`{text}` is not a network such as \"10.0.0.0/8\", nor an address"
            ))
        })
    }
}

impl<'de> Deserialize<'de> for TrustedProxies {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let networks = Vec::<Network>::deserialize(deserializer)?;
        Ok(networks.into_iter().map(|Network(network)| network).collect())
    }
}

impl FromIterator<IpNet> for TrustedProxies {
    fn from_iter<I: IntoIterator<Item = IpNet>>(networks: I) -> Self {
        Self(networks.into_iter().collect())
    }
}

impl Serialize for TrustedProxies {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(
            self.0
                .iter()
                .map(|network| match network.prefix_len() == network.max_prefix_len() {
                    true => network.addr().to_string(),
                    false => network.to_string(),
                }),
        )
    }
}

impl JsonSchema for TrustedProxies {
    fn schema_name() -> Cow<'static, str> {
        "TrustedProxies".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        Vec::<String>::json_schema(generator)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trusted() -> TrustedProxies {
        serde_json::from_str("[\"10.0.0.0/8\", \"127.0.0.1\", \"fd00::/8\"]").unwrap()
    }

    fn client(peer: &str, headers: &[(&'static str, &str)]) -> String {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        trusted().client(peer.parse().unwrap(), &map).to_string()
    }

    #[test]
    fn last_untrusted_hop_is_the_client() {
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
            // All are trusted: the farthest counts.
            ("10.0.0.3, 10.0.0.2", "10.0.0.3:0"),
            // The hop before an unknown one is not known.
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
    fn parses_quoted_values_of_forwarded() {
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
    fn ignores_headers_of_untrusted_peers() {
        assert_eq!(client("6.6.6.6:1", &[("x-forwarded-for", "1.2.3.4")]), "6.6.6.6:1");
        assert_eq!(client("6.6.6.6:1", &[("forwarded", "for=1.2.3.4")]), "6.6.6.6:1");
        assert_eq!(client("10.0.0.1:1", &[]), "10.0.0.1:1");
        let nobody = TrustedProxies::default();
        let headers = HeaderMap::from_iter([(X_FORWARDED_FOR, "1.2.3.4".parse().unwrap())]);
        let peer = "127.0.0.1:1".parse().unwrap();
        assert_eq!(nobody.client(peer, &headers), peer);
    }

    #[test]
    fn ignores_headers_that_contradict_each_other() {
        let both = |one: &str, other: &str| client("10.0.0.1:9", &[("x-forwarded-for", one), ("forwarded", other)]);
        assert_eq!(both("203.0.113.7", "for=1.2.3.4"), "10.0.0.1:9");
        assert_eq!(both("203.0.113.7", "for=203.0.113.7"), "203.0.113.7:0");
    }

    mod arbitrary {
        use proptest::prelude::*;

        use super::*;
        use plugnode_testing::arbitrary::{nearly_text, one_of};

        proptest! {
            #[test]
            fn arbitrary_headers_do_not_panic(
                list in nearly_text(one_of(&["1.2.3.4, 10.0.0.1", "for=\"[::1]:2\";by=\",;\", for=10.0.0.1", "\"\\"])),
            ) {
                let Ok(value) = list.parse::<hyper::header::HeaderValue>() else { return Ok(()) };
                for name in [X_FORWARDED_FOR, FORWARDED] {
                    let headers = HeaderMap::from_iter([(name, value.clone())]);
                    let _ = trusted().client("10.0.0.1:1".parse().unwrap(), &headers);
                }
            }
        }
    }
}
