//! Signatures of the Standard Webhooks specification, symmetric:
//! <https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md>.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac};
use sha2::Sha256;

/// Prefix of a secret.
const PREFIX: &str = "whsec_";
/// Bytes that a secret may have, as the specification says.
const SIZES: std::ops::RangeInclusive<usize> = 24..=64;

/// The secret that a webhook signs with. `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct SigningSecret(Vec<u8>);

/// A text is not a secret.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("is not `{PREFIX}` and 24 to 64 bytes in Base64; make one by: echo {PREFIX}$(openssl rand -base64 32)")]
pub struct InvalidSecret;

impl SigningSecret {
    /// Reads a secret in the form of the specification.
    ///
    /// # Errors
    /// If it is none. The error does not contain it.
    pub fn parse(text: &str) -> Result<Self, InvalidSecret> {
        let encoded = text.trim().strip_prefix(PREFIX).ok_or(InvalidSecret)?;
        let secret = STANDARD.decode(encoded).map_err(|_| InvalidSecret)?;
        match SIZES.contains(&secret.len()) {
            true => Ok(Self(secret)),
            false => Err(InvalidSecret),
        }
    }

    /// A signature for the header `webhook-signature`.
    pub(super) fn sign(&self, id: &str, timestamp: u64, body: &[u8]) -> String {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("a key may have any length");
        for part in [id.as_bytes(), b".", timestamp.to_string().as_bytes(), b".", body] {
            mac.update(part);
        }
        format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
    }
}

impl fmt::Debug for SigningSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signs_as_the_reference_libraries() {
        // The vector of the libraries' own tests.
        let secret = SigningSecret::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let signature = secret.sign(
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            1_614_265_330,
            br#"{"test": 2432232314}"#,
        );
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        assert_eq!(format!("{secret:?}"), "(secret)");
    }

    #[test]
    fn refuses_what_is_no_secret() {
        for text in [
            "",
            "whsec_",
            "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            "whsec_MfKQ",
            "whsec_!fKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        ] {
            assert_eq!(SigningSecret::parse(text), Err(InvalidSecret), "{text}");
        }
    }
}
