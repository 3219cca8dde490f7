//! Chance, for faults at arbitrary moments: no two runs alike.

use std::hash::{BuildHasher, RandomState};

/// A number below `limit`.
pub(crate) fn random(limit: u64) -> u64 {
    // Each state has keys of its own, and the hash of one value under fresh keys is as good as a die.
    RandomState::new().hash_one(0) % limit.max(1)
}
