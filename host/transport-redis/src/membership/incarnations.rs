//! Incarnations: each join of a node has a random id, so that a later join under the same name is told from an earlier one.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::{Arc, Mutex};

use plugnode_message::NodeId;

/// Number of earlier incarnations of a name that are remembered.
const REMEMBERED: usize = 8;

/// The incarnations of this process, by role and name.
#[derive(Debug, Clone, Default)]
pub(crate) struct Incarnations(Arc<Mutex<ByName>>);

type ByName = HashMap<(&'static str, NodeId), VecDeque<String>>;

impl Incarnations {
    /// Adds one, and returns the earlier ones of the same name with a space before and behind each.
    pub(crate) fn add(&self, role: &'static str, name: &NodeId, incarnation: &str) -> String {
        let mut known = self.0.lock().expect("nothing panics while it holds this lock");
        let of_name = known.entry((role, name.clone())).or_default();
        let earlier = of_name.iter().fold(" ".to_owned(), |all, one| all + one + " ");
        of_name.push_back(incarnation.to_owned());
        if of_name.len() > REMEMBERED {
            of_name.pop_front();
        }
        earlier
    }
}

/// A random id of 64 bits, in hexadecimal.
pub(crate) fn random_id() -> String {
    // The operating system's randomness seeds each hasher.
    format!("{:016x}", RandomState::new().build_hasher().finish())
}
