//! `[io-node.token]`: the JWTs that clients must present, and the keys that verify them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use plugnode_process::settings::Millis;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Secret;
use crate::roles::io_node::{Algorithm, Field, JwksLocation};

/// `[io-node.token]`. Tokens are checked when there is at least one key to check them with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Token {
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

impl Token {
    /// Whether a key is configured, so that tokens are checked.
    pub fn has_key(&self) -> bool {
        self.secret.is_some() || self.secret_file.is_some() || self.public_key.is_some() || self.jwks.is_some()
    }

    /// The configured files, each with its key in the section.
    pub(super) fn files(&self) -> impl Iterator<Item = (&'static str, &Path)> {
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
    pub(super) fn files_mut(&mut self) -> impl Iterator<Item = (&'static str, &mut PathBuf)> {
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
