//! The keys that tokens are looked at with. Each is for one algorithm, which was decided where the key was read: what a
//! token says of its own algorithm can only make it be refused.

use anyhow::{Context, Result, bail, ensure};
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, KeyOperations, PublicKeyUse};
use jsonwebtoken::{AlgorithmFamily, DecodingKey};
use serde_json::Value;
use tracing::debug;

use super::settings::Algorithm;

/// Shorter moduli of RSA are broken, or soon will be (RFC 7518 asks for this).
const LEAST_MODULUS: usize = 2_048 / 8;
/// RFC 7518 asks of a key of HS256 that it be as long as what it makes.
const LEAST_SECRET: usize = 32;
/// A point of P-256, as it is written out: a mark and two numbers.
const POINT: usize = 1 + 2 * 32;
/// Keys taken from one set: a token that names none of them is tried with all.
const MOST_KEYS: usize = 32;

/// One key. Its debug output shows nothing secret.
#[derive(Debug, Clone)]
pub(super) struct Key {
    /// What a token calls it.
    pub(super) id: Option<String>,
    pub(super) algorithm: Algorithm,
    pub(super) key: DecodingKey,
}

impl Key {
    /// A secret of HS256.
    pub(super) fn of_secret(secret: &[u8]) -> Result<Self> {
        ensure!(
            secret.len() >= LEAST_SECRET,
            "the secret must be {LEAST_SECRET} bytes or more, such as `openssl rand -base64 32` makes"
        );
        Ok(Self {
            id: None,
            algorithm: Algorithm::HS256,
            key: DecodingKey::from_secret(secret),
        })
    }

    /// A public key as PEM: RSA for RS256, P-256 for ES256.
    pub(super) fn of_pem(pem: &[u8]) -> Result<Self> {
        const WANTED: &str = "this is not the public key of RSA or P-256 as PEM";
        let text = std::str::from_utf8(pem).context(WANTED)?;
        ensure!(
            !text.contains("PRIVATE KEY-----"),
            "this is a private key, which only who makes tokens may have; `openssl pkey -in IT -pubout` makes the public one"
        );
        ensure!(
            !text.contains("BEGIN CERTIFICATE-----"),
            "this is a certificate; `openssl x509 -in IT -noout -pubkey` makes the public key of it"
        );
        if let Ok(key) = DecodingKey::from_rsa_pem(pem) {
            return Self::checked(None, Algorithm::RS256, key);
        }
        let key = DecodingKey::from_ec_pem(pem).context(WANTED)?;
        Self::checked(None, Algorithm::ES256, key)
    }

    /// A key of a set; none when it is for something else.
    fn of_jwk(jwk: &Jwk, secrets: bool) -> Result<Option<Self>> {
        let common = &jwk.common;
        let algorithm = match &jwk.algorithm {
            AlgorithmParameters::RSA(_) => Algorithm::RS256,
            AlgorithmParameters::EllipticCurve(curve) if curve.curve == EllipticCurve::P256 => Algorithm::ES256,
            AlgorithmParameters::OctetKey(_) if secrets => Algorithm::HS256,
            _ => return Ok(None),
        };
        let named = KeyAlgorithm::from(jsonwebtoken::Algorithm::from(algorithm));
        let signs = common
            .public_key_use
            .as_ref()
            .is_none_or(|used| *used == PublicKeyUse::Signature);
        let verifies = common
            .key_operations
            .as_ref()
            .is_none_or(|operations| operations.contains(&KeyOperations::Verify));
        if !signs || !verifies || common.key_algorithm.is_some_and(|other| other != named) {
            return Ok(None);
        }
        let key = DecodingKey::from_jwk(jwk)?;
        Self::checked(common.key_id.clone(), algorithm, key).map(Some)
    }

    /// That it can be used, which the library would find out with the first token.
    fn checked(id: Option<String>, algorithm: Algorithm, key: DecodingKey) -> Result<Self> {
        match key.family() {
            AlgorithmFamily::Hmac => {
                let length = key.try_get_as_bytes()?.len();
                ensure!(length >= LEAST_SECRET, "a secret must be {LEAST_SECRET} bytes or more");
            }
            AlgorithmFamily::Rsa => {
                let jwk = Jwk::from_decoding_key(&key, None).context("this is not a public key of RSA")?;
                let AlgorithmParameters::RSA(parameters) = jwk.algorithm else {
                    bail!("this is not a public key of RSA");
                };
                // Of base64, four characters are three bytes.
                let length = parameters.n.len() * 3 / 4;
                ensure!(length >= LEAST_MODULUS, "a key of RSA must have 2048 bits or more");
            }
            _ => {
                let point = key.try_get_as_bytes()?;
                ensure!(
                    point.len() == POINT && point[0] == 4,
                    "a key of ES256 must be an uncompressed point of P-256 (prime256v1)"
                );
            }
        }
        Ok(Self { id, algorithm, key })
    }
}

/// The keys of a JWK set that are for one of these algorithms. Others, and those that cannot be read, are passed over;
/// secrets are, unless they may be in it.
pub(super) fn of_set(text: &[u8], algorithms: &[Algorithm], secrets: bool) -> Result<Vec<Key>> {
    let set: Value = serde_json::from_slice(text).context("this is not JSON")?;
    let Some(all) = set.get("keys").and_then(Value::as_array) else {
        bail!("this is not a JWK set, which is an object with a list of `keys`");
    };
    let mut keys = Vec::new();
    for (i, value) in all.iter().enumerate() {
        let read = serde_json::from_value::<Jwk>(value.clone()).map_err(Into::into);
        match read.and_then(|jwk| Key::of_jwk(&jwk, secrets)) {
            Ok(Some(key)) if algorithms.contains(&key.algorithm) => keys.push(key),
            Ok(_) => debug!(key = i, "a key of the JWK set is for something else"),
            // The error of serde may show what is in it.
            Err(_) => debug!(key = i, "a key of the JWK set cannot be used"),
        }
    }
    if keys.is_empty() {
        bail!(
            "none of the {} keys in the JWK set is one for {algorithms:?}",
            all.len()
        );
    }
    if keys.len() > MOST_KEYS {
        bail!(
            "the JWK set has {} keys; a set of so many is not for one application, {MOST_KEYS} are taken at most",
            keys.len()
        );
    }
    Ok(keys)
}
