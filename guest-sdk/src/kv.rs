//! Key-value buckets that the app's configuration grants, over `wasi:keyvalue`.
//!
//! Writes are effects of the event: its handler sees them at once, other events see them after the commit, and they are
//! dropped if the event fails.
//!
//! **Reads are checked at commit.** If the event wrote to a bucket and another event has changed a value that it read, none of
//! its effects happen, and it is handled again with the current values. A counter that is read and written back is therefore
//! always right; events that write are in effect serialized. An event that writes nothing is not checked, and neither are
//! lists of keys. Changes to the memory of the instance, and outgoing HTTP requests, are not undone.
//!
//! Events that change the same key at the same time cause each other to be handled again. To avoid that, use one key per
//! client instead of one for all, and [`Bucket::add`], which does not read.

use std::fmt;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::host::{atomics, batch, kv, store};

/// Why an operation on a bucket failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    /// No bucket has this name.
    NoSuchBucket(String),
    /// The app's configuration does not grant this bucket.
    Denied(String),
    /// The stored value does not have the requested type, or the new value cannot be written as JSON.
    Value {
        /// The key.
        key: String,
        /// The reason.
        reason: String,
    },
    /// The store did not answer, or refused a write.
    Failed {
        /// The bucket.
        bucket: String,
        /// The reason.
        reason: String,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSuchBucket(bucket) => write!(f, "bucket `{bucket}` does not exist"),
            Self::Denied(bucket) => {
                write!(
                    f,
                    "bucket `{bucket}` is not granted: add it to `keyvalue` in the app's `grants`"
                )
            }
            Self::Value { key, reason } => write!(f, "value of key `{key}`: {reason}"),
            Self::Failed { bucket, reason } => write!(f, "bucket `{bucket}`: {reason}"),
        }
    }
}

impl std::error::Error for Error {}

/// Opens a bucket. In a component it stays open for the life of the instance; opening it again needs no call to the host.
pub fn open(name: &str) -> Result<Bucket, Error> {
    match handles::open(name) {
        Ok(bucket) => Ok(Bucket {
            name: name.into(),
            bucket,
        }),
        Err(error) => Err(store_error(name, error)),
    }
}

/// An open bucket. Values are JSON, read and written with serde, or plain bytes.
#[derive(Debug)]
pub struct Bucket {
    name: String,
    bucket: handles::Bucket,
}

impl Bucket {
    /// The value of a key, or none if it does not exist.
    pub fn get<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, Error> {
        self.get_bytes(key)?.map(|bytes| from_json(key, &bytes)).transpose()
    }

    /// The bytes of a key, or none if it does not exist.
    pub fn get_bytes(&self, key: &str) -> Result<Option<Vec<u8>>, Error> {
        self.bucket.get(key).map_err(|error| self.store_error(error))
    }

    /// Sets the value of a key.
    pub fn set(&self, key: &str, value: &(impl Serialize + ?Sized)) -> Result<(), Error> {
        self.set_bytes(key, &to_json(key, value)?)
    }

    /// Sets the bytes of a key.
    pub fn set_bytes(&self, key: &str, value: &[u8]) -> Result<(), Error> {
        self.bucket.set(key, value).map_err(|error| self.store_error(error))
    }

    /// Sets the value of a key, which expires this long after the commit. [`set`](Self::set) removes the expiry,
    /// [`add`](Self::add) keeps it.
    pub fn set_for(&self, key: &str, value: &(impl Serialize + ?Sized), time: Duration) -> Result<(), Error> {
        self.set_bytes_for(key, &to_json(key, value)?, time)
    }

    /// Sets the bytes of a key, which expires this long after the commit.
    pub fn set_bytes_for(&self, key: &str, value: &[u8], time: Duration) -> Result<(), Error> {
        let time = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        kv::set_with_ttl(&self.name, key, value, time).map_err(|error| self.kv_error(error))
    }

    /// Adds to the integer under a key, 0 if the key is missing. Does not read the value, so concurrent additions do not
    /// cause a retry. The addition happens at commit; if the value is not an integer then, the event fails.
    pub fn add(&self, key: &str, delta: i64) -> Result<(), Error> {
        kv::add(&self.name, key, delta).map_err(|error| self.kv_error(error))
    }

    /// Adds to the integer under a key, 0 if the key is missing, and returns the sum, which holds at the commit. This reads the
    /// key; prefer [`add`](Self::add) if the sum is not needed.
    pub fn increment(&self, key: &str, delta: u64) -> Result<u64, Error> {
        atomics::increment(&self.bucket, key, delta).map_err(|error| self.store_error(error))
    }

    /// Deletes a key. Does nothing if it does not exist.
    pub fn delete(&self, key: &str) -> Result<(), Error> {
        self.bucket.delete(key).map_err(|error| self.store_error(error))
    }

    /// Whether a key exists.
    pub fn exists(&self, key: &str) -> Result<bool, Error> {
        self.bucket.exists(key).map_err(|error| self.store_error(error))
    }

    /// All keys, in unspecified order.
    pub fn keys(&self) -> Result<Vec<String>, Error> {
        let mut keys = Vec::new();
        let mut cursor = None;
        loop {
            let page = self.bucket.list_keys(cursor).map_err(|error| self.store_error(error))?;
            keys.extend(page.keys);
            cursor = page.cursor;
            if cursor.is_none() {
                return Ok(keys);
            }
        }
    }

    /// All keys with this prefix, in unspecified order. Use [`page`](Self::page) if there may be many.
    pub fn keys_with(&self, prefix: &str) -> Result<Vec<String>, Error> {
        let mut keys = Vec::new();
        let mut cursor = None;
        loop {
            let page = self.page(prefix, cursor)?;
            keys.extend(page.keys);
            cursor = page.cursor;
            if cursor.is_none() {
                return Ok(keys);
            }
        }
    }

    /// One page of the keys with this prefix, in unspecified order. Pass no cursor for the first page. A page may be empty
    /// before the last one.
    pub fn page(&self, prefix: &str, cursor: Option<u64>) -> Result<Page, Error> {
        let page = kv::list_keys(&self.name, prefix, cursor).map_err(|error| self.kv_error(error))?;
        Ok(Page {
            keys: page.keys,
            cursor: page.cursor,
        })
    }

    /// The values of these keys, in the given order; none for a key that does not exist.
    pub fn get_many<T: DeserializeOwned>(&self, keys: &[impl AsRef<str>]) -> Result<Vec<Option<T>>, Error> {
        let pairs = batch::get_many(&self.bucket, &to_strings(keys)).map_err(|error| self.store_error(error))?;
        pairs
            .into_iter()
            .map(|pair| pair.map(|(key, bytes)| from_json(&key, &bytes)).transpose())
            .collect()
    }

    /// Sets the values of several keys.
    pub fn set_many(&self, pairs: &[(impl AsRef<str>, impl Serialize)]) -> Result<(), Error> {
        let pairs = pairs
            .iter()
            .map(|(key, value)| Ok((key.as_ref().to_owned(), to_json(key.as_ref(), value)?)))
            .collect::<Result<Vec<_>, Error>>()?;
        batch::set_many(&self.bucket, &pairs).map_err(|error| self.store_error(error))
    }

    /// Deletes several keys. Keys that do not exist are ignored.
    pub fn delete_many(&self, keys: &[impl AsRef<str>]) -> Result<(), Error> {
        batch::delete_many(&self.bucket, &to_strings(keys)).map_err(|error| self.store_error(error))
    }

    fn kv_error(&self, error: kv::Error) -> Error {
        let reason = match error {
            kv::Error::Denied(_) => return Error::Denied(self.name.clone()),
            kv::Error::QuotaExceeded => {
                "this event has used up its limit of writes or bytes; raise it in the app's `limits`".into()
            }
            kv::Error::Invalid(reason) | kv::Error::Other(reason) => reason,
        };
        Error::Failed {
            bucket: self.name.clone(),
            reason,
        }
    }

    fn store_error(&self, error: store::Error) -> Error {
        store_error(&self.name, error)
    }
}

/// A page of keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The keys.
    pub keys: Vec<String>,
    /// The cursor of the next page; none after the last page.
    pub cursor: Option<u64>,
}

fn store_error(bucket: &str, error: store::Error) -> Error {
    match error {
        store::Error::NoSuchStore => Error::NoSuchBucket(bucket.into()),
        store::Error::AccessDenied => Error::Denied(bucket.into()),
        store::Error::Other(reason) => Error::Failed {
            bucket: bucket.into(),
            reason,
        },
    }
}

fn to_strings(keys: &[impl AsRef<str>]) -> Vec<String> {
    keys.iter().map(|key| key.as_ref().to_owned()).collect()
}

fn from_json<T: DeserializeOwned>(key: &str, bytes: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(bytes).map_err(|error| Error::Value {
        key: key.into(),
        reason: error.to_string(),
    })
}

fn to_json(key: &str, value: &(impl Serialize + ?Sized)) -> Result<Vec<u8>, Error> {
    serde_json::to_vec(value).map_err(|error| Error::Value {
        key: key.into(),
        reason: error.to_string(),
    })
}

/// Bucket handles of this instance. A handle is a resource of the host, and creating and dropping one costs as much as a read,
/// so handles are kept. Their number is bounded by the app's grants, which do not change while the instance lives.
#[cfg(target_family = "wasm")]
mod handles {
    use std::cell::RefCell;
    use std::rc::Rc;

    use super::store::{self, Error};

    pub(super) type Bucket = Rc<store::Bucket>;

    thread_local! {
        static OPEN: RefCell<Vec<(String, Bucket)>> = const { RefCell::new(Vec::new()) };
    }

    pub(super) fn open(name: &str) -> Result<Bucket, Error> {
        OPEN.with_borrow_mut(|open| {
            if let Some((_, bucket)) = open.iter().find(|(known, _)| known == name) {
                return Ok(bucket.clone());
            }
            let bucket = Rc::new(store::open(name)?);
            open.push((name.into(), bucket.clone()));
            Ok(bucket)
        })
    }
}

/// Natively, a bucket handle is only a name.
#[cfg(not(target_family = "wasm"))]
use store as handles;
