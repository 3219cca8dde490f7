//! Key-value buckets that the app's configuration grants, over `wasi:keyvalue`.
//!
//! Writes belong to the event: the handler that made them sees them at once, everybody else once the event is
//! committed, and nobody when it fails.
//!
//! **What an event writes rests on what it has read.** When it is committed, every key that it has read is looked at again.
//! If one has another value by then, because another event was committed in between, nothing of this event takes effect,
//! and it is handled again, with what is there now. So a counter that is read and written counts right, whoever else
//! counts: in effect, events that write come one after the other. An event that writes nothing is not looked at again, and
//! neither is a list of keys. What an event has done in the memory of its instance, or elsewhere by HTTP, is not taken back.
//!
//! Where many events change one key at the same time, they hinder each other. [`Bucket::add`] does not read, and does so least; and a key for each client is better than one for all.

use std::fmt;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::host::{atomics, batch, kv, store};

/// A bucket did not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    /// There is no bucket of that name.
    NoSuchBucket(String),
    /// The app's configuration does not grant this bucket.
    Denied(String),
    /// What is stored under the key is not what was asked for, or what was to be stored cannot be written as JSON.
    Value {
        /// The key.
        key: String,
        /// What is wrong with the value.
        reason: String,
    },
    /// The store could not answer, or did not take a write.
    Failed {
        /// The bucket.
        bucket: String,
        /// Why.
        reason: String,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSuchBucket(bucket) => write!(f, "there is no bucket `{bucket}`"),
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

/// Opens a bucket. In a component it stays open for the instance, and to open it again asks the host nothing.
pub fn open(name: &str) -> Result<Bucket, Error> {
    match opened::open(name) {
        Ok(bucket) => Ok(Bucket {
            name: name.into(),
            bucket,
        }),
        Err(error) => Err(named(name, error)),
    }
}

/// An open bucket. Values are JSON by way of serde, or plain bytes.
#[derive(Debug)]
pub struct Bucket {
    name: String,
    bucket: opened::Bucket,
}

impl Bucket {
    /// The value of a key, if there is one.
    pub fn get<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, Error> {
        self.get_bytes(key)?.map(|bytes| read(key, &bytes)).transpose()
    }

    /// The bytes under a key, if there are any.
    pub fn get_bytes(&self, key: &str) -> Result<Option<Vec<u8>>, Error> {
        self.bucket.get(key).map_err(|error| self.failed(error))
    }

    /// Sets the value of a key.
    pub fn set(&self, key: &str, value: &(impl Serialize + ?Sized)) -> Result<(), Error> {
        self.set_bytes(key, &write(key, value)?)
    }

    /// Sets the bytes under a key.
    pub fn set_bytes(&self, key: &str, value: &[u8]) -> Result<(), Error> {
        self.bucket.set(key, value).map_err(|error| self.failed(error))
    }

    /// Sets the value of a key for a time, which begins with the commit of the event. Then the key is gone by itself, unless
    /// it was set again: [`set`](Self::set) makes it stay, [`add`](Self::add) leaves the time as it is.
    pub fn set_for(&self, key: &str, value: &(impl Serialize + ?Sized), time: Duration) -> Result<(), Error> {
        self.set_bytes_for(key, &write(key, value)?, time)
    }

    /// Sets the bytes under a key for a time.
    pub fn set_bytes_for(&self, key: &str, value: &[u8], time: Duration) -> Result<(), Error> {
        let time = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        kv::set_with_ttl(&self.name, key, value, time).map_err(|error| self.refused(error))
    }

    /// Adds to the integer under a key, 0 when there is none, without reading it: that others add to it at the same moment is
    /// no reason to handle the event again. It is added at the commit; if what is there then is no integer, the event fails.
    pub fn add(&self, key: &str, delta: i64) -> Result<(), Error> {
        kv::add(&self.name, key, delta).map_err(|error| self.refused(error))
    }

    /// Adds to the integer under a key, 0 when there is none, and returns the sum, as of the commit of this event. It reads
    /// the key; where the sum is not needed, [`add`](Self::add) is better.
    pub fn increment(&self, key: &str, delta: u64) -> Result<u64, Error> {
        atomics::increment(&self.bucket, key, delta).map_err(|error| self.failed(error))
    }

    /// Deletes a key; does nothing when there is none.
    pub fn delete(&self, key: &str) -> Result<(), Error> {
        self.bucket.delete(key).map_err(|error| self.failed(error))
    }

    /// Whether there is such a key.
    pub fn exists(&self, key: &str) -> Result<bool, Error> {
        self.bucket.exists(key).map_err(|error| self.failed(error))
    }

    /// All keys, in no promised order.
    pub fn keys(&self) -> Result<Vec<String>, Error> {
        let mut keys = Vec::new();
        let mut cursor = None;
        loop {
            let page = self.bucket.list_keys(cursor).map_err(|error| self.failed(error))?;
            keys.extend(page.keys);
            cursor = page.cursor;
            if cursor.is_none() {
                return Ok(keys);
            }
        }
    }

    /// All keys that begin with `prefix`, in no promised order. Where there may be many, [`page`](Self::page) takes them a
    /// part at a time.
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

    /// Some of the keys that begin with `prefix`, in no promised order: from a cursor on, which is none at first. There may
    /// be none before the last page.
    pub fn page(&self, prefix: &str, cursor: Option<u64>) -> Result<Page, Error> {
        let page = kv::list_keys(&self.name, prefix, cursor).map_err(|error| self.refused(error))?;
        Ok(Page {
            keys: page.keys,
            cursor: page.cursor,
        })
    }

    /// The values of these keys, in their order; none where there is no such key.
    pub fn get_many<T: DeserializeOwned>(&self, keys: &[impl AsRef<str>]) -> Result<Vec<Option<T>>, Error> {
        let pairs = batch::get_many(&self.bucket, &owned(keys)).map_err(|error| self.failed(error))?;
        pairs
            .into_iter()
            .map(|pair| pair.map(|(key, bytes)| read(&key, &bytes)).transpose())
            .collect()
    }

    /// Sets the values of several keys.
    pub fn set_many(&self, pairs: &[(impl AsRef<str>, impl Serialize)]) -> Result<(), Error> {
        let pairs = pairs
            .iter()
            .map(|(key, value)| Ok((key.as_ref().to_owned(), write(key.as_ref(), value)?)))
            .collect::<Result<Vec<_>, Error>>()?;
        batch::set_many(&self.bucket, &pairs).map_err(|error| self.failed(error))
    }

    /// Deletes these keys, where there are such.
    pub fn delete_many(&self, keys: &[impl AsRef<str>]) -> Result<(), Error> {
        batch::delete_many(&self.bucket, &owned(keys)).map_err(|error| self.failed(error))
    }

    fn refused(&self, error: kv::Error) -> Error {
        let reason = match error {
            kv::Error::Denied(_) => return Error::Denied(self.name.clone()),
            kv::Error::QuotaExceeded => "this event has used up the writes or bytes that the app's limits allow".into(),
            kv::Error::Invalid(reason) | kv::Error::Other(reason) => reason,
        };
        Error::Failed {
            bucket: self.name.clone(),
            reason,
        }
    }

    fn failed(&self, error: store::Error) -> Error {
        named(&self.name, error)
    }
}

/// Some keys, and where to go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The keys.
    pub keys: Vec<String>,
    /// For the next page; none when this was the last.
    pub cursor: Option<u64>,
}

fn named(bucket: &str, error: store::Error) -> Error {
    match error {
        store::Error::NoSuchStore => Error::NoSuchBucket(bucket.into()),
        store::Error::AccessDenied => Error::Denied(bucket.into()),
        store::Error::Other(reason) => Error::Failed {
            bucket: bucket.into(),
            reason,
        },
    }
}

fn owned(keys: &[impl AsRef<str>]) -> Vec<String> {
    keys.iter().map(|key| key.as_ref().to_owned()).collect()
}

fn read<T: DeserializeOwned>(key: &str, bytes: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(bytes).map_err(|error| Error::Value {
        key: key.into(),
        reason: error.to_string(),
    })
}

fn write(key: &str, value: &(impl Serialize + ?Sized)) -> Result<Vec<u8>, Error> {
    serde_json::to_vec(value).map_err(|error| Error::Value {
        key: key.into(),
        reason: error.to_string(),
    })
}

/// The buckets of an instance. Each is an object of the host, and making and dropping one costs as much as a read. There are
/// never more of them than the app is granted, and a grant holds for as long as the instance does.
#[cfg(target_family = "wasm")]
mod opened {
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

/// Natively a bucket is only its name.
#[cfg(not(target_family = "wasm"))]
use store as opened;
