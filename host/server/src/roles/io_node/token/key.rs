//! The keys that verify tokens. Each is for one algorithm, which is decided where the key is read. The algorithm that a token names cannot
//! change that; it can only get the token refused.

use anyhow::{Context, Result, bail, ensure};
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, KeyOperations, PublicKeyUse};
use jsonwebtoken::{AlgorithmFamily, DecodingKey};
use serde_json::Value;
use tracing::debug;

use super::settings::Algorithm;

/// Bytes of an RSA modulus, as RFC 7518 requires: shorter ones are broken, or soon will be.
const MIN_MODULUS: usize = 2_048 / 8;
/// Bytes of a secret, as RFC 7518 requires: the size of the signature.
const MIN_SECRET: usize = 32;
/// Bytes of an uncompressed point of P-256: a tag and two coordinates.
const POINT: usize = 1 + 2 * 32;
/// Keys that a set may have: a token that names no key is tried with each.
const MAX_KEYS: usize = 32;

/// A key. Its debug output shows nothing secret.
#[derive(Debug, Clone)]
pub(super) struct Key {
    /// The id by which tokens name it.
    pub(super) id: Option<String>,
    pub(super) algorithm: Algorithm,
    pub(super) key: DecodingKey,
}

impl Key {
    /// A secret of HS256.
    pub(super) fn of_secret(secret: &[u8]) -> Result<Self> {
        ensure!(
            secret.len() >= MIN_SECRET,
            "the secret must have {MIN_SECRET} bytes or more; make one by `openssl rand -base64 32`"
        );
        Ok(Self {
            id: None,
            algorithm: Algorithm::HS256,
            key: DecodingKey::from_secret(secret),
        })
    }

    /// A public key in PEM: RSA for RS256, P-256 for ES256.
    pub(super) fn of_pem(pem: &[u8]) -> Result<Self> {
        const WANTED: &str = "this is not a public key of RSA or P-256 in PEM";
        let text = std::str::from_utf8(pem).context(WANTED)?;
        ensure!(
            !text.contains("PRIVATE KEY-----"),
            "this is a private key, which only the issuer of tokens may have; get its public key by `openssl pkey -in FILE -pubout`"
        );
        ensure!(
            !text.contains("BEGIN CERTIFICATE-----"),
            "this is a certificate; get its public key by `openssl x509 -in FILE -noout -pubkey`"
        );
        if let Ok(key) = DecodingKey::from_rsa_pem(pem) {
            return Self::checked(None, Algorithm::RS256, key);
        }
        let key = DecodingKey::from_ec_pem(pem).context(WANTED)?;
        Self::checked(None, Algorithm::ES256, key)
    }

    /// A key of a set. None if it does not verify tokens with an algorithm that is supported.
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

    /// Checks that the key can be used, which the library would do only with the first token.
    fn checked(id: Option<String>, algorithm: Algorithm, key: DecodingKey) -> Result<Self> {
        match key.family() {
            AlgorithmFamily::Hmac => {
                let length = key.try_get_as_bytes()?.len();
                ensure!(length >= MIN_SECRET, "a secret must have {MIN_SECRET} bytes or more");
            }
            AlgorithmFamily::Rsa => {
                let jwk = Jwk::from_decoding_key(&key, None).context("this is not a public key of RSA")?;
                let AlgorithmParameters::RSA(parameters) = jwk.algorithm else {
                    bail!("this is not a public key of RSA");
                };
                // Four characters of base64 are three bytes.
                let length = parameters.n.len() * 3 / 4;
                ensure!(length >= MIN_MODULUS, "a key of RSA must have 2048 bits or more");
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

/// The keys of a JWK set for these algorithms. Other keys, keys that cannot be parsed and, unless `secrets` is set, secrets are ignored.
///
/// # Errors
/// If it is not a JWK set, or has no such key or too many.
pub(super) fn of_set(text: &[u8], algorithms: &[Algorithm], secrets: bool) -> Result<Vec<Key>> {
    let set: Value = serde_json::from_slice(text).context("this is not JSON")?;
    let Some(all) = set.get("keys").and_then(Value::as_array) else {
        bail!("this is not a JWK set: an object with an array `keys`");
    };
    let mut keys = Vec::new();
    for (i, value) in all.iter().enumerate() {
        let read = serde_json::from_value::<Jwk>(value.clone()).map_err(Into::into);
        match read.and_then(|jwk| Key::of_jwk(&jwk, secrets)) {
            Ok(Some(key)) if algorithms.contains(&key.algorithm) => keys.push(key),
            Ok(_) => debug!(key = i, "key of the JWK set ignored: it is for something else"),
            // Not logged, because the error of serde may show a part of the key.
            Err(_) => debug!(key = i, "key of the JWK set ignored: it is invalid"),
        }
    }
    if keys.is_empty() {
        bail!("none of the {} keys in the JWK set is for {algorithms:?}", all.len());
    }
    if keys.len() > MAX_KEYS {
        bail!(
            "the JWK set has {} keys, over the limit of {MAX_KEYS}: use a set for this application alone",
            keys.len()
        );
    }
    Ok(keys)
}
