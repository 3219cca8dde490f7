//! Where clients find an io-node: its host and port and, if they are known, the scheme and the path to use.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, de};

use super::IoServer;

/// Where clients find an io-node. In the file: `{ host = "33.33.33.10", port = 8081 }`, also with `scheme` and `path`, or
/// `"33.33.33.10:8081"`, or `"https://chat.example/socket.io"`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct IoServerUrl {
    /// A name or address, an IPv6 one without its brackets. Empty means the host that the client asked for the list.
    pub host: String,
    /// The port.
    pub port: u16,
    /// `http` or `https`, if that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scheme: Option<String>,
    /// The path of Socket.IO there, if that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
}

impl IoServerUrl {
    /// One that is at a host and a port, with nothing else known.
    pub fn at(host: impl Into<String>, port: u16) -> Self {
        Self {
            host: host.into(),
            port,
            scheme: None,
            path: None,
        }
    }

    /// Reads where clients find an io-node: a URL, or a host and a port.
    ///
    /// # Errors
    /// When it is neither, in words.
    pub fn of_clients(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "`{text}` is not a host and a port such as `33.33.33.10:8081`, nor a URL such as `https://chat.example/socket.io`"
            )
        };
        let text = text.trim();
        if !text.contains("://") {
            let server: IoServer = text.parse().map_err(|_| wrong())?;
            return Ok(Self::at(server.host, server.port));
        }
        let uri: http::Uri = text.parse().map_err(|_| wrong())?;
        let (Some(scheme @ ("http" | "https")), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
            return Err(wrong());
        };
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        let has_no_port = authority.as_str().len() == authority.host().len();
        let port = match authority.port_u16() {
            Some(port) => port,
            None if has_no_port && scheme == "https" => 443,
            None if has_no_port => 80,
            None => return Err(wrong()),
        };
        if host.is_empty() || uri.query().is_some() || text.contains('#') {
            return Err(wrong());
        }
        Ok(Self {
            host: host.into(),
            port,
            scheme: Some(scheme.into()),
            path: Some(uri.path().trim_end_matches('/'))
                .filter(|path| !path.is_empty())
                .map(str::to_owned),
        })
    }
}

impl fmt::Display for IoServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

impl<'de> Deserialize<'de> for IoServerUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(IoServerUrlVisitor)
    }
}

impl JsonSchema for IoServerUrl {
    fn schema_name() -> Cow<'static, str> {
        "IoServerUrl".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["string", "object"] })
    }
}

struct IoServerUrlVisitor;

impl<'de> de::Visitor<'de> for IoServerUrlVisitor {
    type Value = IoServerUrl;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{ host = \"33.33.33.10\", port = 8081 }, \"33.33.33.10:8081\" or \"https://chat.example\"")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<IoServerUrl, E> {
        IoServerUrl::of_clients(text).map_err(E::custom)
    }

    fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<IoServerUrl, A::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Fields {
            host: String,
            port: u16,
            scheme: Option<String>,
            path: Option<String>,
        }
        let Fields {
            host,
            port,
            scheme,
            path,
        } = Fields::deserialize(de::value::MapAccessDeserializer::new(map))?;
        Ok(IoServerUrl {
            host,
            port,
            scheme,
            path,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn url_says_scheme_and_path() {
        let read = |text: &str| {
            let server = IoServerUrl::of_clients(text).ok()?;
            Some((
                server.host,
                server.port,
                server.scheme.unwrap_or_default(),
                server.path.unwrap_or_default(),
            ))
        };
        let told = |host: &str, port, scheme: &str, path: &str| Some((host.into(), port, scheme.into(), path.into()));
        assert_eq!(read("https://chat.example"), told("chat.example", 443, "https", ""));
        assert_eq!(read("http://chat.example/"), told("chat.example", 80, "http", ""));
        assert_eq!(
            read("https://chat.example:8443/rt/socket.io/"),
            told("chat.example", 8443, "https", "/rt/socket.io")
        );
        assert_eq!(read("https://[::1]:1/x"), told("::1", 1, "https", "/x"));
        assert_eq!(read("chat.example:81"), told("chat.example", 81, "", ""));
        for wrong in [
            "ws://a",
            "https://",
            "https://a:b",
            "https://a/?b",
            "https://a/#b",
            "a",
            "a:b",
            "https://a:99999",
        ] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}
