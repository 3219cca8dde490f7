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
use std::path::PathBuf;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Validation, decode, decode_header};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use tracing::debug;

use self::key::Key;
pub use self::secret::Secret;
use self::set::KeySet;
use super::attributes::{Field, Fields};
use plugnode_message::{Refusal, Text};
use plugnode_process::shutdown::Shutdown;

/// Makes a key of what is in a file.
type KeyReader = fn(&[u8]) -> Result<Key>;

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
    /// Whether a client's connection ends when it runs out.
    pub enforce_expiry: bool,
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
    /// Those that are read when somebody says so,
    own: RwLock<OwnKeys>,
    /// and those that come and go.
    sets: Vec<KeySet>,
}

/// Keys that are in no set.
#[derive(Debug)]
struct OwnKeys {
    keys: Arc<[Key]>,
    /// Of all that they were read from.
    digest: [u8; 32],
}

/// What a token says that is taken.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Taken {
    /// The claims that become attributes.
    pub(super) claims: Map<String, Value>,
    /// When it runs out, with what clocks may differ, in seconds since the Unix epoch; none where that is not to be enforced.
    pub(super) expires_at: Option<u64>,
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

/// Whether the keys that tokens are looked at with can be used, as far as they are on this machine.
///
/// # Errors
/// When one cannot be read or used.
pub async fn check_keys(settings: &TokenSettings) -> Result<()> {
    OwnKeys::read(&settings.keys, &settings.algorithms)?;
    for source in &settings.keys {
        if let KeySource::Jwks(JwksPlace::File(file)) = source {
            let text = tokio::fs::read(file).await;
            let text = text.with_context(|| format!("cannot read {}", file.display()))?;
            let keys = key::of_set(&text, &settings.algorithms, true);
            keys.with_context(|| format!("{} is no JWK set", file.display()))?;
        }
    }
    Ok(())
}

impl Tokens {
    /// Reads all keys. JWK sets are read again until `shutdown` begins.
    ///
    /// # Errors
    /// When a key cannot be read or used.
    pub(super) async fn start(settings: TokenSettings, shutdown: &Shutdown) -> Result<Arc<Self>> {
        let own = OwnKeys::read(&settings.keys, &settings.algorithms)?;
        let mut sets = Vec::new();
        for source in &settings.keys {
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

    /// Reads the keys again, from these sources, and says whether some are others. Sets are asked for again where they are.
    ///
    /// # Errors
    /// When one cannot be read or used; then all stay as they were.
    pub(super) async fn read_again(&self, sources: &[KeySource]) -> Result<bool> {
        let read = OwnKeys::read(sources, &self.settings.algorithms)?;
        ensure!(
            !(read.keys.is_empty() && self.sets.is_empty()),
            "[io-node.token]: there is no key any more"
        );
        let is_other = {
            let mut own = self.own.write().expect("nothing panics while it holds this lock");
            let is_other = own.digest != read.digest;
            *own = read;
            is_other
        };
        let mut are_others = is_other;
        for set in &self.sets {
            let before = set.digest();
            set.read_again().await;
            are_others |= set.digest() != before;
        }
        Ok(are_others)
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

    /// Looks at a token, and gives what of it counts from now on. One that names a key which is in no set waits
    /// for the sets to be read again.
    ///
    /// # Errors
    /// With what to tell the client.
    pub(super) async fn check(&self, token: Option<&str>) -> Result<Taken, Refusal> {
        let Some(token) = token else {
            return match self.settings.required {
                true => Err(refusal("a token is required")),
                false => Ok(Taken::default()),
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
                Ok(Taken { claims, expires_at })
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
        let own = {
            let own = self.own.read().expect("nothing panics while it holds this lock");
            own.keys.clone()
        };
        let all = || own.iter().chain(of_sets.iter().flat_map(|keys| keys.iter()));
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

    /// In whole seconds.
    fn leeway(&self) -> u64 {
        let leeway = self.settings.leeway;
        leeway.as_secs() + u64::from(leeway.subsec_nanos() > 0)
    }

    fn validation(&self, algorithm: Algorithm) -> Validation {
        let settings = &self.settings;
        let mut validation = Validation::new(algorithm.of_library());
        validation.leeway = self.leeway();
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
                    note(secret.expose());
                    keys.push(Key::of_secret(secret.expose()).context("[io-node.token] secret")?);
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
