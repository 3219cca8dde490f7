//! The key-value store as handlers use it: reads from a store, and the changes that are committed with an event.

use std::time::Instant;

use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::Text;

/// Reads of the key-value store, as of the last commit.
#[async_trait]
pub trait KeyValue: Send + Sync {
    /// The values of these keys, in their order.
    ///
    /// # Errors
    /// [`KeyValueError::TooLarge`] if all of them together exceed `most` bytes; hardly more than that was loaded.
    async fn get(&self, bucket: &str, keys: &[Text], most: usize) -> Result<Vec<Option<Bytes>>, KeyValueError>;

    /// A page of the keys that begin with `prefix`, and the cursor of the next page; the first cursor is 0. A page may be empty
    /// before the end. A key that exists during the whole iteration is returned, one that is added or deleted meanwhile may be. The
    /// keys of a page have at most `most` bytes.
    async fn keys(
        &self,
        bucket: &str,
        prefix: &str,
        cursor: u64,
        most: usize,
    ) -> Result<(Vec<Text>, Option<u64>), KeyValueError>;

    /// Number of keys in a bucket, expired ones that are not removed yet included.
    async fn count(&self, bucket: &str) -> Result<u64, KeyValueError>;

    /// Whether the store has answered any request since `asked` and is still reachable. Called after a read timed out: true means that the
    /// read asked for too much, false that the store was unreachable.
    async fn has_answered_since(&self, asked: Instant) -> bool;
}

/// Why a read of the key-value store failed.
#[derive(Debug, thiserror::Error)]
pub enum KeyValueError {
    /// The store could not answer, for this reason. A later read may succeed.
    #[error("key-value store: {0}")]
    Unavailable(String),
    /// The answer has more bytes than one read may have.
    #[error("key-value store: the answer has more than {0} bytes; read fewer keys at once")]
    TooLarge(usize),
}

/// A change of a key, as an event makes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyChange {
    /// The bucket.
    pub bucket: Text,
    /// The key.
    pub key: Text,
    /// The change.
    pub change: Change,
}

/// A change of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Set the value.
    Set {
        /// The value.
        value: Bytes,
        /// Time to live after the commit, in milliseconds. None: the key stays.
        ttl_ms: Option<u64>,
    },
    /// Delete the key.
    Delete,
    /// Add to the integer that the key has at the commit. A key without a value counts as 0. The time to live stays.
    Add(i64),
}

impl Change {
    /// Sets a value without a time to live.
    pub fn set(value: impl Into<Bytes>) -> Self {
        Self::Set {
            value: value.into(),
            ttl_ms: None,
        }
    }

    /// Size in bytes, as limits count it.
    pub fn size(&self) -> usize {
        match self {
            Self::Set { value, .. } => value.len(),
            Self::Delete => 0,
            Self::Add(_) => size_of::<i64>(),
        }
    }
}

/// Bound of the sums of [`Change::Add`]: their absolute value is below 9.2 × 10^18. That is less than 64 bits hold by more than the
/// rounding of a Lua script, which counts in floating point.
pub const MAX_SUM: i64 = 9_200_000_000_000_000_000;

/// The integer that a stored value is: decimal digits without leading zeros. None for any other value.
pub fn integer_of(value: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(value).ok()?;
    let digits = text.strip_prefix('-').unwrap_or(text);
    let is_plain = text == "0" || digits.starts_with(|first| matches!(first, '1'..='9'));
    text.parse().ok().filter(|_| is_plain)
}

/// The sum of two stored integers. None if it is out of the bound [`MAX_SUM`].
pub fn sum_of(one: i64, other: i64) -> Option<i64> {
    let sum = one.checked_add(other)?;
    (sum.unsigned_abs() < MAX_SUM.unsigned_abs()).then_some(sum)
}

/// The value of a key that an event read. The event's commit succeeds only if the key still has this value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Read {
    /// The bucket.
    pub bucket: Text,
    /// The key.
    pub key: Text,
    /// The value that was read.
    pub seen: Seen,
}

/// A value that was read, or its digest if it is long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// No value.
    Nothing,
    /// This value.
    Value(Bytes),
    /// The SHA-1 of a long value.
    Digest([u8; 20]),
}

/// Values up to this size are kept as they are, longer ones as a digest.
const LONGEST_SEEN: usize = 1_024;

impl Seen {
    /// The record of a read of this value.
    pub fn of(value: Option<&Bytes>) -> Self {
        match value {
            None => Self::Nothing,
            Some(value) if value.len() <= LONGEST_SEEN => Self::Value(value.clone()),
            Some(value) => Self::Digest(sha1_of(value)),
        }
    }

    /// Whether this value is the one seen.
    pub fn is(&self, value: Option<&Bytes>) -> bool {
        match (self, value) {
            (Self::Nothing, None) => true,
            (Self::Value(seen), Some(value)) => seen == value,
            (Self::Digest(seen), Some(value)) => value.len() > LONGEST_SEEN && *seen == sha1_of(value),
            _ => false,
        }
    }
}

/// The SHA-1 of a value, which Redis can compute as well. It detects changes; it does not protect against forgery.
pub fn sha1_of(value: &[u8]) -> [u8; 20] {
    use sha1::{Digest, Sha1};
    Sha1::digest(value).into()
}

/// A write to a bucket as it is carried out. No value deletes the key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Write {
    /// The bucket.
    pub bucket: Text,
    /// The key.
    pub key: Text,
    /// The new value.
    pub value: Option<Bytes>,
}
