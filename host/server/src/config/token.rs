//! The settings of the tokens that clients have to show.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Field, Secret};

/// `[io-node.token]`. Tokens are looked at when there is at least one key to look at them with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Token {
    /// Where in the handshake it is. Default: `auth.token`.
    pub from: Field,
    /// Whether a client without one is refused. Default: true.
    pub required: bool,
    /// The secret of HS256. Default: none.
    pub secret: Option<Secret>,
    /// A file that holds a secret of HS256. Default: none.
    pub secret_file: Option<PathBuf>,
    /// A PEM file with the public key of RS256 or ES256. Default: none.
    pub public_key: Option<PathBuf>,
    /// A JWK set: a file, or a URL. Default: none.
    pub jwks: Option<Jwks>,
    /// A PEM file with the certificates to trust when the set is fetched. Default: those that browsers trust.
    pub jwks_ca: Option<PathBuf>,
    /// How often the set is read again. Default: 300,000.
    pub jwks_refresh_ms: u64,
    /// The least time between two readings of the set because of a token whose key is not in it. Default: 10,000.
    pub jwks_pause_ms: u64,
    /// Time that a reading of the set may take. Default: 5,000.
    pub jwks_timeout_ms: u64,
    /// The algorithms that keys may be for. Default: all.
    pub algorithms: Vec<Algorithm>,
    /// Who may have made it (`iss`). Default: anybody who has the key.
    pub issuers: Vec<String>,
    /// Whom it must be made for (`aud`), one of these. Default: anybody.
    pub audiences: Vec<String>,
    /// By how much clocks may differ. Default: 5,000.
    pub leeway_ms: u64,
    /// Whether it must say when it runs out (`exp`). Default: true.
    pub expiry_required: bool,
    /// Whether a client's connection ends when its token runs out. Default: false.
    pub enforce_expiry: bool,
    /// The claims that become attributes of the client. Default: `sub`.
    pub claims: Vec<String>,
}

/// How a token can be signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "they are names of RFC 7518")]
pub enum Algorithm {
    HS256,
    RS256,
    ES256,
}

/// Where a JWK set is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Jwks {
    /// In a file.
    File(PathBuf),
    /// At a URL.
    Url(String),
}

impl Token {
    /// Whether there is a key to look at tokens with.
    pub fn has_key(&self) -> bool {
        self.secret.is_some() || self.secret_file.is_some() || self.public_key.is_some() || self.jwks.is_some()
    }

    /// The files named, with their keys.
    pub(super) fn files(&self) -> impl Iterator<Item = (&'static str, &Path)> {
        let jwks = match &self.jwks {
            Some(Jwks::File(file)) => Some(file),
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

    /// The same, to be changed.
    pub(super) fn files_mut(&mut self) -> impl Iterator<Item = (&'static str, &mut PathBuf)> {
        let jwks = match &mut self.jwks {
            Some(Jwks::File(file)) => Some(file),
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
}

impl Default for Token {
    fn default() -> Self {
        Self {
            from: Field::Auth(vec!["token".into()]),
            required: true,
            secret: None,
            secret_file: None,
            public_key: None,
            jwks: None,
            jwks_ca: None,
            jwks_refresh_ms: 300_000,
            jwks_pause_ms: 10_000,
            jwks_timeout_ms: 5_000,
            algorithms: vec![Algorithm::HS256, Algorithm::RS256, Algorithm::ES256],
            issuers: Vec::new(),
            audiences: Vec::new(),
            leeway_ms: 5_000,
            expiry_required: true,
            enforce_expiry: false,
            claims: vec!["sub".into()],
        }
    }
}

impl Serialize for Jwks {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::File(file) => file.serialize(serializer),
            Self::Url(url) => url.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Jwks {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Ok(match text.contains("://") {
            true => Self::Url(text),
            false => Self::File(text.into()),
        })
    }
}
