//! Host and port of an io-node, as clients use them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, de};

/// The address of an io-node as clients use it. In the file: `{ host = "33.33.33.10", port = 8081 }` or `"33.33.33.10:8081"`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct IoServer {
    /// A host name or address; IPv6 without brackets. Empty: the host from which the client loaded the list.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl FromStr for IoServer {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || format!("`{text}` is not a host and a port such as `127.0.0.1:8080`");
        let (host, port) = text.trim().rsplit_once(':').ok_or_else(wrong)?;
        let host = match host.strip_prefix('[') {
            Some(v6) => v6.strip_suffix(']').ok_or_else(wrong)?,
            None if host.contains(':') => return Err(wrong()),
            None => host,
        };
        if host.is_empty() || host.contains(|c: char| c.is_whitespace() || c == '/') {
            return Err(wrong());
        }
        Ok(Self {
            host: host.into(),
            port: port.parse().map_err(|_| wrong())?,
        })
    }
}

impl fmt::Display for IoServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

impl<'de> Deserialize<'de> for IoServer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(IoServerVisitor)
    }
}

struct IoServerVisitor;

impl<'de> de::Visitor<'de> for IoServerVisitor {
    type Value = IoServer;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{ host = \"33.33.33.10\", port = 8081 } or \"33.33.33.10:8081\"")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<IoServer, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<IoServer, A::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Fields {
            host: String,
            port: u16,
        }
        let Fields { host, port } = Fields::deserialize(de::value::MapAccessDeserializer::new(map))?;
        Ok(IoServer { host, port })
    }
}
