//! Unseeded random numbers, for faults at arbitrary times.

use std::hash::{BuildHasher, RandomState};

/// A number below `limit`.
pub(crate) fn random(limit: u64) -> u64 {
    // Each `RandomState` has new random keys.
    RandomState::new().hash_one(0) % limit.max(1)
}
