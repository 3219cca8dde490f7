//! Host resources of `wasi:keyvalue` that handlers hold.

use bytes::Bytes;

use plugnode_message::Text;

/// An open bucket.
#[derive(Debug)]
#[allow(unreachable_pub, reason = "the generated bindings export it on")]
pub struct Bucket {
    pub(crate) name: Text,
}

/// A compare-and-swap handle: a key, and its value when the handler looked.
#[derive(Debug)]
#[allow(unreachable_pub, reason = "the generated bindings export it on")]
pub struct Cas {
    pub(crate) bucket: Text,
    pub(crate) key: Text,
    pub(crate) current: Option<Bytes>,
}
