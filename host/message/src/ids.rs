//! Maps by names that the host itself gives, such as clients' ids, or that have one in them.
//!
//! What clients may choose needs a hash that nobody can aim at, and the standard library's is that. Ids are random and
//! come from here, so that theirs need only be quick; a seed of its own for each map keeps anybody from trying.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, Hasher, RandomState};

use xxhash_rust::xxh3::xxh3_64_with_seed;

/// A map by names that are not chosen by clients.
pub type ById<K, V> = HashMap<K, V, Seed>;

/// A set of names that are not chosen by clients.
pub type Ids<K> = HashSet<K, Seed>;

/// Where the hashes of one map begin.
#[derive(Debug, Clone, Copy)]
pub struct Seed(u64);

/// A hash under way.
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

    /// What ends a text: two texts after each other do not hash as one.
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
    fn names_are_found_that_were_put_in_and_no_others() {
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
    fn each_map_hashes_in_a_way_of_its_own() {
        let hash = |seed: Seed| seed.hash_one("abcdefghijklmnopqrst");
        let (one, other) = (Seed::default(), Seed::default());
        assert_eq!(hash(one), hash(one));
        assert_ne!(hash(one), hash(other));
        assert_ne!(one.hash_one(("ab", "c")), one.hash_one(("a", "bc")));
    }
}
