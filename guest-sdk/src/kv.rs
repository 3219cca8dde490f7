//! Key-value buckets that the app's configuration grants, over `wasi:keyvalue`.
//!
//! Writes belong to the event: the handler that made them sees them at once, everybody else once the event is
//! committed, and nobody when it fails. Two events that are handled at the same time do not see each other's writes,
//! and of two writes to one key the later commit stands. So what several clients add to is better kept as one key for
//! each addition than as one list under one key.

use std::fmt;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::host::{batch, store};

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
    /// The store could not answer.
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

    fn failed(&self, error: store::Error) -> Error {
        named(&self.name, error)
    }
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
