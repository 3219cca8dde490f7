//! Hash maps by ids that the host itself makes, such as session ids.
//!
//! Keys that clients choose need the standard library's hash, which resists collision attacks. Ids are random and made by the host, so
//! a faster hash is enough; each map has its own seed.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, Hasher, RandomState};

use xxhash_rust::xxh3::xxh3_64_with_seed;

/// A map by ids that clients do not choose.
pub type ById<K, V> = HashMap<K, V, Seed>;

/// A set of ids that clients do not choose.
pub type Ids<K> = HashSet<K, Seed>;

/// The seed of one map.
#[derive(Debug, Clone, Copy)]
pub struct Seed(u64);

/// A hasher: XXH3 with the map's seed.
#[derive(Debug)]
pub struct Hash(u64);

impl Default for Seed {
    fn default() -> Self {
        Self(RandomState::new().hash_one(0))
    }
}

impl BuildHasher for Seed {
    type Hasher = Hash;

    fn build_hasher(&self) -> Hash {
        Hash(self.0)
    }
}

impl Hasher for Hash {
    fn write(&mut self, bytes: &[u8]) {
        self.0 = xxh3_64_with_seed(bytes, self.0);
    }

    /// Ends a text: `("ab", "c")` and `("a", "bc")` hash differently.
    fn write_u8(&mut self, byte: u8) {
        self.0 = self.0.rotate_left(5) ^ u64::from(byte);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_was_inserted() {
        let mut known = ById::default();
        for number in 0..1_000 {
            known.insert(number.to_string().repeat(number % 40 + 1), number);
        }
        for number in 0..1_000 {
            assert_eq!(known.get(&number.to_string().repeat(number % 40 + 1)), Some(&number));
        }
        assert_eq!(known.get("1000"), None);
    }

    #[test]
    fn each_map_has_its_own_seed() {
        let hash = |seed: Seed| seed.hash_one("abcdefghijklmnopqrst");
        let (one, other) = (Seed::default(), Seed::default());
        assert_eq!(hash(one), hash(one));
        assert_ne!(hash(one), hash(other));
        assert_ne!(one.hash_one(("ab", "c")), one.hash_one(("a", "bc")));
    }
}
