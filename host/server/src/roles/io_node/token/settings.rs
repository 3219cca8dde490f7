//! The settings of tokens.

use std::borrow::Cow;
use std::path::PathBuf;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::super::field::Field;
use super::secret::Secret;

/// Which tokens are valid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenSettings {
    /// The field of the handshake that has the token.
    pub from: Field,
    /// Whether a client without a token is refused.
    pub required: bool,
    /// The keys that may sign it.
    pub keys: Vec<KeySource>,
    /// The algorithms of keys. Keys of a JWK set for other algorithms are ignored.
    pub algorithms: Vec<Algorithm>,
    /// The allowed issuers; empty allows any.
    pub issuers: Vec<String>,
    /// The audiences of which it must have one; empty allows any.
    pub audiences: Vec<String>,
    /// How much clocks may differ, rounded up to seconds.
    pub leeway: Duration,
    /// Whether it must have an expiry.
    pub expiry_required: bool,
    /// Whether a client's connection is closed when it expires.
    pub enforce_expiry: bool,
    /// The claims that become attributes.
    pub claims: Vec<String>,
    /// A PEM file with the certificates to trust when a JWK set is fetched. None trusts those of browsers.
    pub ca: Option<PathBuf>,
    /// How often a JWK set is read again.
    pub refresh: Duration,
    /// The least time between two readings because of unknown keys.
    pub pause: Duration,
    /// How long a reading may take.
    pub timeout: Duration,
}

/// The algorithm of a signature. Each key is for one of them; a token cannot choose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs, reason = "they are names of RFC 7518")]
pub enum Algorithm {
    HS256,
    RS256,
    ES256,
}

/// The source of keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeySource {
    /// The secret of HS256.
    Secret(Secret),
    /// A file with the secret of HS256. White space at its end is ignored.
    SecretFile(PathBuf),
    /// A PEM file with a public key: RSA for RS256, P-256 for ES256.
    PublicKey(PathBuf),
    /// A JWK set, read at the start, from time to time, and when a token names an unknown key.
    Jwks(JwksLocation),
}

/// The location of a JWK set; a text with `://` is a URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JwksLocation {
    /// In a file.
    File(PathBuf),
    /// At an http or https URL.
    Url(String),
}

impl From<Algorithm> for jsonwebtoken::Algorithm {
    fn from(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::HS256 => Self::HS256,
            Algorithm::RS256 => Self::RS256,
            Algorithm::ES256 => Self::ES256,
        }
    }
}

impl Serialize for JwksLocation {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::File(file) => file.serialize(serializer),
            Self::Url(url) => url.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for JwksLocation {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Ok(match text.contains("://") {
            true => Self::Url(text),
            false => Self::File(text.into()),
        })
    }
}

impl JsonSchema for JwksLocation {
    fn schema_name() -> Cow<'static, str> {
        "JwksLocation".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        String::json_schema(generator)
    }
}
