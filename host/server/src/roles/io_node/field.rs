//! A field of a client's handshake, written `"auth.user"`, `"query.page"` or `"header.user-agent"` in the configuration.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A field of a client's handshake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Field {
    /// In `auth`: a key, then a key of the value there, and so on.
    Auth(Vec<String>),
    /// A parameter of the query.
    Query(String),
    /// A header, by its name in lower case.
    Header(String),
}

impl FromStr for Field {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || {
            format!(
                "`{text}` is not a field of the handshake, such as \"auth.user\", \"query.page\" or \"header.user-agent\""
            )
        };
        let (place, name) = text.split_once('.').ok_or_else(wrong)?;
        if name.is_empty() {
            return Err(wrong());
        }
        match place {
            "auth" if name.split('.').any(str::is_empty) => Err(wrong()),
            "auth" => Ok(Self::Auth(name.split('.').map(String::from).collect())),
            "query" => Ok(Self::Query(name.into())),
            "header" => http::HeaderName::try_from(name)
                .map(|name| Self::Header(name.as_str().into()))
                .map_err(|_| wrong()),
            _ => Err(wrong()),
        }
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auth(keys) => write!(f, "auth.{}", keys.join(".")),
            Self::Query(name) => write!(f, "query.{name}"),
            Self::Header(name) => write!(f, "header.{name}"),
        }
    }
}

impl Serialize for Field {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Field {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl JsonSchema for Field {
    fn schema_name() -> Cow<'static, str> {
        "Field".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        String::json_schema(generator)
    }
}
