//! Verifies the tokens (JWT) that clients have to show.
//!
//! A client is only told that its token is invalid, so that forgers learn nothing. The reason is logged at the level debug, without tokens or
//! secrets.

mod fetch;
mod key;
mod set;
mod settings;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Validation, decode, decode_header};
use parking_lot::RwLock;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use tracing::debug;

use self::key::Key;
use self::set::{KeySet, SetKeys};
use self::settings::KeySource;
pub use self::settings::{Algorithm, JwksLocation, TokenSettings};
use super::attributes::Fields;
use super::field::Field;
use plugnode_message::{Refusal, Text};
use plugnode_process::shutdown::Shutdown;

/// Makes a key of the content of a file.
type KeyReader = fn(&[u8]) -> Result<Key>;

/// Bytes that a token may have: as many as an HTTP header can carry.
const MAX_BYTES: usize = 16 * 1_024;

/// Verifies tokens.
#[derive(Debug)]
pub(super) struct Tokens {
    settings: TokenSettings,
    /// Keys that are read again on request.
    own: RwLock<OwnKeys>,
    /// JWK sets, which are read again from time to time.
    sets: Vec<KeySet>,
}

/// Keys that are not in a JWK set.
#[derive(Debug)]
struct OwnKeys {
    keys: Arc<[Key]>,
    /// The digest of the sources that they were read from.
    digest: [u8; 32],
}

/// Keys that were read and are not in use yet.
pub struct NewKeys {
    own: OwnKeys,
    /// For each JWK set in use. None if it is at a URL.
    sets: Vec<Option<SetKeys>>,
}

/// The part of a valid token that matters.
#[derive(Debug, Default, PartialEq)]
pub(super) struct VerifiedToken {
    /// The claims that become attributes.
    pub(super) claims: Map<String, Value>,
    /// When it expires, leeway included, in seconds since the Unix epoch. None if expiry is not enforced.
    pub(super) expires_at: Option<u64>,
}

/// Why a token is invalid. For the log only.
#[derive(Debug, thiserror::Error)]
enum TokenError {
    #[error("it has {0} bytes, over the limit of {MAX_BYTES}")]
    Long(usize),
    #[error("it requires unknown extensions: {0:?}")]
    Critical(Vec<String>),
    #[error("no key has the id {0:?}")]
    UnknownKey(String),
    #[error("no key fits")]
    NoKey,
    #[error(transparent)]
    Jwt(#[from] jsonwebtoken::errors::Error),
}

/// Checks the keys that are files on this machine.
///
/// # Errors
/// If one cannot be read or used.
pub async fn check_keys(settings: &TokenSettings) -> Result<()> {
    let sources = settings.keys();
    OwnKeys::read(&sources, &settings.algorithms)?;
    for source in &sources {
        if let KeySource::Jwks(JwksLocation::File(file)) = source {
            let text = tokio::fs::read(file).await;
            let text = text.with_context(|| format!("cannot read {}", file.display()))?;
            let keys = key::of_set(&text, &settings.algorithms, true);
            keys.with_context(|| format!("{} is not a JWK set", file.display()))?;
        }
    }
    Ok(())
}

impl Tokens {
    /// Reads all keys. JWK sets are read again until `shutdown` begins.
    ///
    /// # Errors
    /// If a key cannot be read or used.
    pub(super) async fn start(settings: TokenSettings, shutdown: &Shutdown) -> Result<Arc<Self>> {
        Self::start_with(&settings.keys(), settings, shutdown).await
    }

    async fn start_with(sources: &[KeySource], settings: TokenSettings, shutdown: &Shutdown) -> Result<Arc<Self>> {
        let own = OwnKeys::read(sources, &settings.algorithms)?;
        let mut sets = Vec::new();
        for source in sources {
            if let KeySource::Jwks(place) = source {
                sets.push(KeySet::start(place, &settings, shutdown).await?);
            }
        }
        ensure!(
            !(own.keys.is_empty() && sets.is_empty()),
            "[io-node.token] algorithms: none of the keys is for {:?}; name those that the keys are for",
            settings.algorithms
        );
        let own = RwLock::new(own);
        Ok(Arc::new(Self { settings, own, sets }))
    }

    /// Reads the keys again as these settings name them, and the JWK sets that are files from their own. They are in use once they are given to
    /// [`replace`](Self::replace).
    ///
    /// # Errors
    /// If one cannot be read or used.
    pub(super) async fn read_again(&self, settings: &TokenSettings) -> Result<NewKeys> {
        let own = OwnKeys::read(&settings.keys(), &self.settings.algorithms)?;
        ensure!(
            !(own.keys.is_empty() && self.sets.is_empty()),
            "[io-node.token]: there is no key any more"
        );
        let mut sets = Vec::with_capacity(self.sets.len());
        for set in &self.sets {
            sets.push(set.read_file().await?);
        }
        Ok(NewKeys { own, sets })
    }

    /// Uses these keys from now on, and fetches the JWK sets that are at URLs; one that cannot be fetched keeps its keys. Returns whether any
    /// key changed.
    pub(super) async fn replace(&self, new: NewKeys) -> bool {
        let mut has_changed = {
            let mut own = self.own.write();
            let has_changed = own.digest != new.own.digest;
            *own = new.own;
            has_changed
        };
        for (set, read) in self.sets.iter().zip(new.sets) {
            let before = set.digest();
            match read {
                Some(read) => set.replace(read),
                None => set.read_again().await,
            }
            has_changed |= set.digest() != before;
        }
        has_changed
    }

    /// The token in a handshake, if it has one.
    pub(super) fn of(&self, fields: &Fields<'_>) -> Option<String> {
        let found = match fields.find(&self.settings.from)? {
            Value::Null => return None,
            Value::String(text) => text,
            // A value that is not a string is an invalid token.
            _ => String::new(),
        };
        let bearer = found.get(..7).filter(|start| start.eq_ignore_ascii_case("bearer "));
        Some(match (&self.settings.from, bearer) {
            (Field::Header(_), Some(_)) => found[7..].trim().to_owned(),
            _ => found,
        })
    }

    /// Verifies a token. If it names an unknown key, the JWK sets are read again first.
    ///
    /// # Errors
    /// With the refusal of the client.
    pub(super) async fn check(&self, token: Option<&str>) -> Result<VerifiedToken, Refusal> {
        let Some(token) = token else {
            return match self.settings.required {
                true => Err(refusal("a token is required")),
                false => Ok(VerifiedToken::default()),
            };
        };
        match self.claims(token).await {
            Ok(mut claims) => {
                let expires_at = claims
                    .get("exp")
                    .and_then(Value::as_f64)
                    .filter(|_| self.settings.enforce_expiry);
                let expires_at = expires_at.map(|at| at as u64 + self.leeway());
                claims.retain(|name, _| self.settings.claims.contains(name));
                Ok(VerifiedToken { claims, expires_at })
            }
            Err(error) => {
                debug!(%error, "token refused");
                Err(refusal("invalid token"))
            }
        }
    }

    async fn claims(&self, token: &str) -> Result<Map<String, Value>, TokenError> {
        if token.len() > MAX_BYTES {
            return Err(TokenError::Long(token.len()));
        }
        let header = decode_header(token)?;
        if let Some(critical) = header.crit {
            return Err(TokenError::Critical(critical));
        }
        match self.claims_by(token, header.kid.as_deref()) {
            Err(TokenError::UnknownKey(_)) => {}
            decided => return decided,
        }
        for set in &self.sets {
            set.renew().await;
        }
        self.claims_by(token, header.kid.as_deref())
    }

    /// The claims of a token, verified with the present keys.
    fn claims_by(&self, token: &str, named: Option<&str>) -> Result<Map<String, Value>, TokenError> {
        let mut mismatch = None;
        let of_sets: Vec<_> = self.sets.iter().map(KeySet::keys).collect();
        let own = {
            let own = self.own.read();
            own.keys.clone()
        };
        let all = || own.iter().chain(of_sets.iter().flat_map(|keys| keys.iter()));
        // A key without an id fits any token.
        let fits = |key: &&Key| named.is_none() || key.id.is_none() || key.id.as_deref() == named;
        for key in all().filter(fits) {
            match decode::<Map<String, Value>>(token, &key.key, &self.validation(key.algorithm)) {
                Ok(decoded) => return Ok(decoded.claims),
                Err(error) => match error.kind() {
                    ErrorKind::InvalidSignature | ErrorKind::InvalidAlgorithm => _ = mismatch.get_or_insert(error),
                    // This key signed it, so no other key has to be tried.
                    _ => return Err(error.into()),
                },
            }
        }
        let is_known = |name: &str| all().any(|key| key.id.as_deref() == Some(name));
        match (named, mismatch) {
            (Some(name), _) if !self.sets.is_empty() && !is_known(name) => Err(TokenError::UnknownKey(name.into())),
            (_, Some(error)) => Err(error.into()),
            (_, None) => Err(TokenError::NoKey),
        }
    }

    /// The leeway in seconds, rounded up.
    fn leeway(&self) -> u64 {
        let leeway = self.settings.leeway;
        leeway.as_secs() + u64::from(leeway.subsec_nanos() > 0)
    }

    fn validation(&self, algorithm: Algorithm) -> Validation {
        let settings = &self.settings;
        let mut validation = Validation::new(algorithm.into());
        validation.leeway = self.leeway();
        validation.validate_nbf = true;
        // Otherwise a token with an audience would be refused where none is configured.
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

impl OwnKeys {
    fn read(sources: &[KeySource], algorithms: &[Algorithm]) -> Result<Self> {
        let (mut keys, mut hash) = (Vec::new(), Sha256::new());
        let mut note = |bytes: &[u8]| {
            hash.update((bytes.len() as u64).to_le_bytes());
            hash.update(bytes);
        };
        for source in sources {
            let (file, name, of): (_, _, KeyReader) = match source {
                KeySource::Secret(secret) => {
                    let secret = secret.expose().as_bytes();
                    note(secret);
                    keys.push(Key::of_secret(secret).context("[io-node.token] secret")?);
                    continue;
                }
                KeySource::Jwks(_) => continue,
                KeySource::SecretFile(file) => (file, "secret-file", |bytes| Key::of_secret(bytes.trim_ascii_end())),
                KeySource::PublicKey(file) => (file, "public-key", Key::of_pem),
            };
            let cannot = || format!("[io-node.token] {name}: cannot use {}", file.display());
            let bytes = std::fs::read(file).context("cannot read it").with_context(cannot)?;
            note(&bytes);
            keys.push(of(&bytes).with_context(cannot)?);
        }
        keys.retain(|key| algorithms.contains(&key.algorithm));
        Ok(Self {
            keys: keys.into(),
            digest: hash.finalize().into(),
        })
    }
}

fn refusal(message: &'static str) -> Refusal {
    Refusal {
        message: Text::from_static(message),
        data: None,
    }
}
