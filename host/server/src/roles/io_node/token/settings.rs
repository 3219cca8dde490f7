//! `[io-node.token]`: the JWTs that clients must present, and the keys that verify them.

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::time::Duration;

use plugnode_settings::{Millis, Secret};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::super::field::Field;

/// `[io-node.token]`. Tokens are checked when there is at least one key to check them with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct TokenSettings {
    /// HS256 secret of 32 bytes or more, such as `openssl rand -base64 32` makes. Better set by the variable, or kept in
    /// `secret-file`.
    #[schemars(example = &"0123456789abcdef0123456789abcdef")]
    pub secret: Option<Secret>,
    /// File that holds the HS256 secret and nothing else.
    #[schemars(example = &"token.secret")]
    pub secret_file: Option<PathBuf>,
    /// PEM file with the public key of RS256 (RSA) or ES256 (P-256).
    #[schemars(example = &"token.pem")]
    pub public_key: Option<PathBuf>,
    /// JWK set with public keys: a file, or an `http://` or `https://` URL.
    #[schemars(example = &"https://login.example.com/.well-known/jwks.json")]
    pub jwks: Option<JwksLocation>,
    /// PEM file with the certificates to trust when `jwks` is fetched by https. Unset: those that browsers trust.
    #[schemars(example = &"token-ca.pem")]
    pub jwks_ca: Option<PathBuf>,
    /// Interval between two reads of `jwks`. When a read fails, the keys stay as they are.
    #[serde(rename = "jwks-refresh-ms", with = "Millis")]
    pub jwks_refresh: Duration,
    /// Shortest time between two reads of `jwks` that tokens with an unknown key cause.
    #[serde(rename = "jwks-pause-ms", with = "Millis")]
    pub jwks_pause: Duration,
    /// Time-out of one read of `jwks`.
    #[serde(rename = "jwks-timeout-ms", with = "Millis")]
    pub jwks_timeout: Duration,
    /// Where in the handshake the token is: `auth.token` is what clients give as `io(url, { auth: { token } })`. Also
    /// `query.NAME`, which ends up in the logs of proxies, and `header.authorization`, where `Bearer ` may precede the token.
    pub from: Field,
    /// Whether a client without a token is refused too.
    pub required: bool,
    /// Algorithms to accept. Each key is for one algorithm, whatever the token's header says.
    pub algorithms: Vec<Algorithm>,
    /// Accepted issuers (`iss`). Empty: any issuer that has the key.
    #[schemars(example = ["https://login.example.com"])]
    pub issuers: Vec<String>,
    /// Accepted audiences (`aud`); the token must name one of them. Empty: any.
    #[schemars(example = ["chat"])]
    pub audiences: Vec<String>,
    /// Difference between clocks that is tolerated in `exp` and `nbf`; whole seconds count.
    #[serde(rename = "leeway-ms", with = "Millis")]
    pub leeway: Duration,
    /// Whether a token without an expiry (`exp`) is refused.
    pub expiry_required: bool,
    /// Whether a client is disconnected, with the reason `token expired`, when its token and `leeway-ms` run out. To stay, a
    /// client reconnects to the namespace with a newer token before that.
    pub enforce_expiry: bool,
    /// Claims that become attributes of the client.
    pub claims: Vec<String>,
}

impl TokenSettings {
    /// Whether a key is configured, so that tokens are checked.
    pub fn has_key(&self) -> bool {
        self.secret.is_some() || self.secret_file.is_some() || self.public_key.is_some() || self.jwks.is_some()
    }

    /// The configured files, each with its key in the section.
    pub(crate) fn files(&self) -> impl Iterator<Item = (&'static str, &Path)> {
        let jwks = match &self.jwks {
            Some(JwksLocation::File(file)) => Some(file),
            _ => None,
        };
        [
            ("secret-file", self.secret_file.as_ref()),
            ("public-key", self.public_key.as_ref()),
            ("jwks", jwks),
            ("jwks-ca", self.jwks_ca.as_ref()),
        ]
        .into_iter()
        .filter_map(|(key, file)| Some((key, file?.as_path())))
    }

    /// The same, mutable.
    pub(crate) fn files_mut(&mut self) -> impl Iterator<Item = (&'static str, &mut PathBuf)> {
        let jwks = match &mut self.jwks {
            Some(JwksLocation::File(file)) => Some(file),
            _ => None,
        };
        [
            ("secret-file", self.secret_file.as_mut()),
            ("public-key", self.public_key.as_mut()),
            ("jwks", jwks),
            ("jwks-ca", self.jwks_ca.as_mut()),
        ]
        .into_iter()
        .filter_map(|(key, file)| Some((key, file?)))
    }

    /// The sources of the keys.
    pub(super) fn keys(&self) -> Vec<KeySource> {
        let secret = self.secret.clone().map(KeySource::Secret);
        let secret_file = self.secret_file.clone().map(KeySource::SecretFile);
        let public_key = self.public_key.clone().map(KeySource::PublicKey);
        let jwks = self.jwks.clone().map(KeySource::Jwks);
        [secret, secret_file, public_key, jwks].into_iter().flatten().collect()
    }
}

impl Default for TokenSettings {
    fn default() -> Self {
        Self {
            from: Field::Auth(vec!["token".into()]),
            required: true,
            secret: None,
            secret_file: None,
            public_key: None,
            jwks: None,
            jwks_ca: None,
            jwks_refresh: Duration::from_secs(300),
            jwks_pause: Duration::from_secs(10),
            jwks_timeout: Duration::from_secs(5),
            algorithms: vec![Algorithm::HS256, Algorithm::RS256, Algorithm::ES256],
            issuers: Vec::new(),
            audiences: Vec::new(),
            leeway: Duration::from_secs(5),
            expiry_required: true,
            enforce_expiry: false,
            claims: vec!["sub".into()],
        }
    }
}

/// The source of keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum KeySource {
    /// The secret of HS256.
    Secret(Secret),
    /// A file with the secret of HS256. White space at its end is ignored.
    SecretFile(PathBuf),
    /// A PEM file with a public key: RSA for RS256, P-256 for ES256.
    PublicKey(PathBuf),
    /// A JWK set, read at the start, from time to time, and when a token names an unknown key.
    Jwks(JwksLocation),
}

/// The algorithm of a signature. Each key is for one of them; a token cannot choose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs, reason = "they are names of RFC 7518")]
pub enum Algorithm {
    HS256,
    RS256,
    ES256,
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
