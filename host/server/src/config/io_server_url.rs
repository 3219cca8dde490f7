//! The address of an io-node as clients use it: host, port and, if known, scheme and path.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, de};

use super::IoServer;

/// The address of an io-node as clients use it. In the file: `{ host = "33.33.33.10", port = 8081 }`, also with `scheme` and `path`, or
/// `"33.33.33.10:8081"`, or `"https://chat.example/socket.io"`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct IoServerUrl {
    /// A host name or address; IPv6 without brackets. Empty: the host from which the client loaded the list.
    pub host: String,
    /// The port.
    pub port: u16,
    /// `http` or `https`. None: unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scheme: Option<String>,
    /// The path of Socket.IO. None: unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
}

impl IoServerUrl {
    /// An address without scheme and path.
    pub fn at(host: impl Into<String>, port: u16) -> Self {
        Self {
            host: host.into(),
            port,
            scheme: None,
            path: None,
        }
    }

    /// Parses a URL, or a host and a port.
    ///
    /// # Errors
    /// If the text is neither; the error is a message for users.
    pub fn parse(text: &str) -> Result<Self, String> {
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
        IoServerUrl::parse(text).map_err(E::custom)
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
    fn parses_scheme_and_path_of_url() {
        let read = |text: &str| {
            let server = IoServerUrl::parse(text).ok()?;
            Some((
                server.host,
                server.port,
                server.scheme.unwrap_or_default(),
                server.path.unwrap_or_default(),
            ))
        };
        let expected =
            |host: &str, port, scheme: &str, path: &str| Some((host.into(), port, scheme.into(), path.into()));
        assert_eq!(read("https://chat.example"), expected("chat.example", 443, "https", ""));
        assert_eq!(read("http://chat.example/"), expected("chat.example", 80, "http", ""));
        assert_eq!(
            read("https://chat.example:8443/rt/socket.io/"),
            expected("chat.example", 8443, "https", "/rt/socket.io")
        );
        assert_eq!(read("https://[::1]:1/x"), expected("::1", 1, "https", "/x"));
        assert_eq!(read("chat.example:81"), expected("chat.example", 81, "", ""));
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
