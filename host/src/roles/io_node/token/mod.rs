//! The tokens (JWT) that clients have to show: whose signatures are taken, and what must hold of them.
//!
//! Clients are told that a token is not valid, and no more: what is wrong with a forged one is not for who forged it. The
//! log says it at the level debug, and shows neither tokens nor secrets.

mod fetch;
mod key;
mod secret;
mod set;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Validation, decode, decode_header};
use serde_json::{Map, Value};
use tracing::debug;

use self::key::Key;
pub use self::secret::Secret;
use self::set::KeySet;
use super::attributes::{Field, Fields};
use crate::message::{Refusal, Text};
use crate::shutdown::Shutdown;

/// Bytes of a token. A header of HTTP could bring no more.
const LONGEST: usize = 16 * 1_024;

/// What a token must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenSettings {
    /// Where in the handshake it is.
    pub from: Field,
    /// Whether a client without one is refused.
    pub required: bool,
    /// What it may be signed with.
    pub keys: Vec<KeySource>,
    /// The algorithms that keys may be for; others in a JWK set are passed over.
    pub algorithms: Vec<Algorithm>,
    /// Who may have made it; nobody named is anybody.
    pub issuers: Vec<String>,
    /// Whom it must be made for, one of these; nobody named is anybody.
    pub audiences: Vec<String>,
    /// By how much clocks may differ; whole seconds count.
    pub leeway: Duration,
    /// Whether it must say when it runs out.
    pub expiry_required: bool,
    /// The claims that become attributes.
    pub claims: Vec<String>,
    /// The certificates to trust when a JWK set is fetched, in a PEM file; none are those that browsers trust.
    pub ca: Option<PathBuf>,
    /// How often a JWK set is read again.
    pub refresh: Duration,
    /// The least time between two readings because of a key that is not in the set.
    pub pause: Duration,
    /// How long a reading may take.
    pub timeout: Duration,
}

/// How a token can be signed. Each key is for one of these, whatever a token says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "they are names of RFC 7518")]
pub enum Algorithm {
    HS256,
    RS256,
    ES256,
}

/// Where keys come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeySource {
    /// The secret of HS256.
    Secret(Secret),
    /// A file with one, whose last line's end does not count.
    SecretFile(PathBuf),
    /// A PEM file with a public key: RSA for RS256, P-256 for ES256.
    PublicKey(PathBuf),
    /// A JWK set, read at the start, from time to time, and when a token has a key that is not in it.
    Jwks(JwksPlace),
}

/// Where a JWK set is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JwksPlace {
    /// In a file.
    File(PathBuf),
    /// At a URL of http or https.
    Url(String),
}

/// Looks at tokens.
#[derive(Debug)]
pub(super) struct Tokens {
    settings: TokenSettings,
    /// Those that stay as they are,
    keys: Vec<Key>,
    /// and those that come and go.
    sets: Vec<KeySet>,
}

/// Why a token is not valid. For the log.
#[derive(Debug, thiserror::Error)]
enum Flaw {
    #[error("it has {0} bytes, more than {LONGEST}")]
    Long(usize),
    #[error("it needs extensions that are not known here: {0:?}")]
    Critical(Vec<String>),
    #[error("no key is named {0:?}")]
    UnknownKey(String),
    #[error("there is no key to look at it with")]
    NoKey,
    #[error(transparent)]
    Jwt(#[from] jsonwebtoken::errors::Error),
}

impl Tokens {
    /// Reads all keys. JWK sets are read again until `shutdown` begins.
    ///
    /// # Errors
    /// When a key cannot be read or used.
    pub(super) async fn start(settings: TokenSettings, shutdown: &Shutdown) -> Result<Arc<Self>> {
        let (mut keys, mut sets) = (Vec::new(), Vec::new());
        for source in &settings.keys {
            match source {
                KeySource::Secret(secret) => {
                    keys.push(Key::of_secret(secret.expose()).context("[io-node.token] secret")?);
                }
                KeySource::SecretFile(file) => {
                    keys.push(read(file, "secret-file", |bytes| {
                        Key::of_secret(bytes.trim_ascii_end())
                    })?);
                }
                KeySource::PublicKey(file) => keys.push(read(file, "public-key", Key::of_pem)?),
                KeySource::Jwks(place) => sets.push(KeySet::start(place, &settings, shutdown).await?),
            }
        }
        keys.retain(|key| settings.algorithms.contains(&key.algorithm));
        ensure!(
            !(keys.is_empty() && sets.is_empty()),
            "[io-node.token] algorithms: none of the keys is for {:?}; name those that the keys are for",
            settings.algorithms
        );
        Ok(Arc::new(Self { settings, keys, sets }))
    }

    /// The token in a handshake, if it has one.
    pub(super) fn of(&self, fields: &Fields<'_>) -> Option<String> {
        let found = match fields.find(&self.settings.from)? {
            Value::Null => return None,
            Value::String(text) => text,
            // Something that is no token is a wrong one.
            _ => String::new(),
        };
        let bearer = found.get(..7).filter(|start| start.eq_ignore_ascii_case("bearer "));
        Some(match (&self.settings.from, bearer) {
            (Field::Header(_), Some(_)) => found[7..].trim().to_owned(),
            _ => found,
        })
    }

    /// Looks at a token, and gives those of its claims that become attributes. One that names a key which is in no set waits
    /// for the sets to be read again.
    ///
    /// # Errors
    /// With what to tell the client.
    pub(super) async fn check(&self, token: Option<&str>) -> Result<Map<String, Value>, Refusal> {
        let Some(token) = token else {
            return match self.settings.required {
                true => Err(refusal("a token is required")),
                false => Ok(Map::new()),
            };
        };
        match self.claims(token).await {
            Ok(mut claims) => {
                claims.retain(|name, _| self.settings.claims.contains(name));
                Ok(claims)
            }
            Err(flaw) => {
                debug!("a token is refused: {flaw}");
                Err(refusal("invalid token"))
            }
        }
    }

    async fn claims(&self, token: &str) -> Result<Map<String, Value>, Flaw> {
        if token.len() > LONGEST {
            return Err(Flaw::Long(token.len()));
        }
        let header = decode_header(token)?;
        if let Some(critical) = header.crit {
            return Err(Flaw::Critical(critical));
        }
        match self.claims_by(token, header.kid.as_deref()) {
            Err(Flaw::UnknownKey(_)) => {}
            decided => return decided,
        }
        for set in &self.sets {
            set.renew().await;
        }
        self.claims_by(token, header.kid.as_deref())
    }

    /// The claims of a token, as far as the keys of now can tell.
    fn claims_by(&self, token: &str, named: Option<&str>) -> Result<Map<String, Value>, Flaw> {
        let mut flaw = None;
        let of_sets: Vec<_> = self.sets.iter().map(KeySet::keys).collect();
        let all = || self.keys.iter().chain(of_sets.iter().flat_map(|keys| keys.iter()));
        // A key without a name may be meant by any.
        let fits = |key: &&Key| named.is_none() || key.id.is_none() || key.id.as_deref() == named;
        for key in all().filter(fits) {
            match decode::<Map<String, Value>>(token, &key.key, &self.validation(key.algorithm)) {
                Ok(decoded) => return Ok(decoded.claims),
                Err(error) => match error.kind() {
                    ErrorKind::InvalidSignature | ErrorKind::InvalidAlgorithm => _ = flaw.get_or_insert(error),
                    // This key signed it, so another did not.
                    _ => return Err(error.into()),
                },
            }
        }
        let is_known = |name: &str| all().any(|key| key.id.as_deref() == Some(name));
        match (named, flaw) {
            (Some(name), _) if !self.sets.is_empty() && !is_known(name) => Err(Flaw::UnknownKey(name.into())),
            (_, Some(error)) => Err(error.into()),
            (_, None) => Err(Flaw::NoKey),
        }
    }

    fn validation(&self, algorithm: Algorithm) -> Validation {
        let settings = &self.settings;
        let mut validation = Validation::new(algorithm.of_library());
        validation.leeway = settings.leeway.as_secs() + u64::from(settings.leeway.subsec_nanos() > 0);
        validation.validate_nbf = true;
        // Also when nothing is said of audiences or issuers, so that one that is there counts.
        validation.validate_aud = !settings.audiences.is_empty();
        let mut required = HashSet::new();
        if settings.expiry_required {
            required.insert("exp".to_owned());
        }
        if !settings.audiences.is_empty() {
            validation.set_audience(&settings.audiences);
            required.insert("aud".to_owned());
        }
        if !settings.issuers.is_empty() {
            validation.set_issuer(&settings.issuers);
            required.insert("iss".to_owned());
        }
        validation.required_spec_claims = required;
        validation
    }
}

impl Algorithm {
    fn of_library(self) -> jsonwebtoken::Algorithm {
        match self {
            Self::HS256 => jsonwebtoken::Algorithm::HS256,
            Self::RS256 => jsonwebtoken::Algorithm::RS256,
            Self::ES256 => jsonwebtoken::Algorithm::ES256,
        }
    }
}

fn read(file: &Path, key: &str, of: impl FnOnce(&[u8]) -> Result<Key>) -> Result<Key> {
    let bytes = std::fs::read(file).context("cannot read it");
    bytes
        .and_then(|bytes| of(&bytes))
        .with_context(|| format!("[io-node.token] {key}: cannot use {}", file.display()))
}

fn refusal(message: &'static str) -> Refusal {
    Refusal {
        message: Text::from_static(message),
        data: None,
    }
}
