//! `wasi:keyvalue`: reads see the last commit and, over it, what the present event has written itself; writes are
//! effects of the event and reach the others when it is committed, if what it has read is still so.

mod view;

use std::collections::HashMap;
use std::time::Instant;

use bytes::Bytes;
use tokio::time::timeout_at;
use wasmtime::component::{HasSelf, Resource};

use self::view::Own;
pub(crate) use self::view::View;
use super::{Capability, Grant, Package};
use crate::bindings::wasi::keyvalue::atomics::CasError;
use crate::bindings::wasi::keyvalue::store::{Error, KeyResponse};
use crate::bindings::wasi::keyvalue::{atomics, batch, store};
use crate::state::{Absence, GRACE, Refused, State};
use plugnode_message::{Change, KeyChange, KeyValueError, Text, integer_of, sum_of};

pub(super) const CAPABILITY: Capability = Capability {
    serves: &[Package {
        name: "wasi:keyvalue",
        version: "0.2.0-draft",
        interfaces: &["store", "batch", "atomics"],
    }],
    grant: Some(GRANT),
    link: |linker| {
        store::add_to_linker::<State, HasSelf<State>>(linker, |state| state)?;
        batch::add_to_linker::<State, HasSelf<State>>(linker, |state| state)?;
        atomics::add_to_linker::<State, HasSelf<State>>(linker, |state| state)
    },
};

/// What an app must be granted to reach buckets.
pub(super) const GRANT: Grant = Grant {
    is_given: |grants| !grants.keyvalue.is_empty(),
    remedy: "name the buckets it may open in the app's configuration, as in grants.keyvalue = [\"default\"]",
};

/// A bucket that a handler has open.
#[derive(Debug)]
#[allow(unreachable_pub, reason = "the generated bindings export it on")]
pub struct Bucket {
    name: Text,
}

/// What was under a key when a handler looked.
#[derive(Debug)]
#[allow(unreachable_pub, reason = "the generated bindings export it on")]
pub struct Cas {
    bucket: Text,
    key: Text,
    current: Option<Bytes>,
}

type Answer<T> = wasmtime::Result<Result<T, Error>>;

impl store::Host for State {
    fn open(&mut self, identifier: String) -> Answer<Resource<Bucket>> {
        if let Err(error) = self.check_bucket(&identifier) {
            return Ok(Err(error));
        }
        Ok(Ok(self.table.push(Bucket {
            name: identifier.into(),
        })?))
    }
}

impl store::HostBucket for State {
    async fn get(&mut self, bucket: Resource<Bucket>, key: String) -> Answer<Option<Vec<u8>>> {
        let bucket = self.bucket(&bucket)?;
        let value = self.value(&bucket, key.into()).await;
        Ok(value.map(|value| value.map(Vec::from)))
    }

    fn set(&mut self, bucket: Resource<Bucket>, key: String, value: Vec<u8>) -> Answer<()> {
        let bucket = self.bucket(&bucket)?;
        Ok(self.note_writes(&bucket, [(key, Change::set(value))]))
    }

    fn delete(&mut self, bucket: Resource<Bucket>, key: String) -> Answer<()> {
        let bucket = self.bucket(&bucket)?;
        Ok(self.note_writes(&bucket, [(key, Change::Delete)]))
    }

    async fn exists(&mut self, bucket: Resource<Bucket>, key: String) -> Answer<bool> {
        let bucket = self.bucket(&bucket)?;
        let value = self.value(&bucket, key.into()).await;
        Ok(value.map(|value| value.is_some()))
    }

    async fn list_keys(&mut self, bucket: Resource<Bucket>, cursor: Option<u64>) -> Answer<KeyResponse> {
        let bucket = self.bucket(&bucket)?;
        Ok(self.page(&bucket, "", cursor.unwrap_or(0)).await)
    }

    fn drop(&mut self, bucket: Resource<Bucket>) -> wasmtime::Result<()> {
        self.table.delete(bucket)?;
        Ok(())
    }
}

impl batch::Host for State {
    async fn get_many(
        &mut self,
        bucket: Resource<Bucket>,
        keys: Vec<String>,
    ) -> Answer<Vec<Option<(String, Vec<u8>)>>> {
        let bucket = self.bucket(&bucket)?;
        let keys: Vec<Text> = keys.into_iter().map(Text::from).collect();
        let values = match self.values(&bucket, &keys).await {
            Ok(values) => values,
            Err(error) => return Ok(Err(error)),
        };
        let pairs = keys.into_iter().zip(values);
        Ok(Ok(pairs
            .map(|(key, value)| value.map(|value| (key.into(), Vec::from(value))))
            .collect()))
    }

    fn set_many(&mut self, bucket: Resource<Bucket>, pairs: Vec<(String, Vec<u8>)>) -> Answer<()> {
        let bucket = self.bucket(&bucket)?;
        Ok(self.note_writes(&bucket, pairs.into_iter().map(|(key, value)| (key, Change::set(value)))))
    }

    fn delete_many(&mut self, bucket: Resource<Bucket>, keys: Vec<String>) -> Answer<()> {
        let bucket = self.bucket(&bucket)?;
        Ok(self.note_writes(&bucket, keys.into_iter().map(|key| (key, Change::Delete))))
    }
}

impl atomics::Host for State {
    async fn increment(&mut self, bucket: Resource<Bucket>, key: String, delta: u64) -> Answer<u64> {
        let bucket = self.bucket(&bucket)?;
        Ok(self.increment(&bucket, key, delta).await)
    }

    async fn swap(&mut self, cas: Resource<Cas>, value: Vec<u8>) -> wasmtime::Result<Result<(), CasError>> {
        let mut cas = self.table.delete(cas)?;
        match self.swap(&mut cas, value).await {
            Ok(true) => Ok(Ok(())),
            Ok(false) => Ok(Err(CasError::CasFailed(self.table.push(cas)?))),
            Err(error) => Ok(Err(CasError::StoreError(error))),
        }
    }
}

impl atomics::HostCas for State {
    async fn new(&mut self, bucket: Resource<Bucket>, key: String) -> Answer<Resource<Cas>> {
        let (bucket, key) = (self.bucket(&bucket)?, Text::from(key));
        let current = match self.value(&bucket, key.clone()).await {
            Ok(current) => current,
            Err(error) => return Ok(Err(error)),
        };
        Ok(Ok(self.table.push(Cas { bucket, key, current })?))
    }

    fn current(&mut self, cas: Resource<Cas>) -> Answer<Option<Vec<u8>>> {
        let current = &self.table.get(&cas)?.current;
        Ok(Ok(current.as_ref().map(|value| value.to_vec())))
    }

    fn drop(&mut self, cas: Resource<Cas>) -> wasmtime::Result<()> {
        self.table.delete(cas)?;
        Ok(())
    }
}

impl State {
    fn bucket(&self, bucket: &Resource<Bucket>) -> wasmtime::Result<Text> {
        Ok(self.table.get(bucket)?.name.clone())
    }

    /// Whether the app has this bucket.
    pub(crate) fn check_bucket(&self, name: &str) -> Result<(), Error> {
        let granted = &self.app.settings.grants.keyvalue;
        match granted.iter().any(|granted| granted == name) {
            true => Ok(()),
            false => Err(Error::AccessDenied),
        }
    }

    pub(crate) fn note_writes(
        &mut self,
        bucket: &Text,
        changes: impl IntoIterator<Item = (String, Change)>,
    ) -> Result<(), Error> {
        for (key, change) in changes {
            self.note_write(bucket, key, change)
                .map_err(|refused| Error::Other(refused.to_string()))?;
        }
        Ok(())
    }

    pub(crate) fn note_write(&mut self, bucket: &Text, key: String, change: Change) -> Result<(), Refused> {
        if self.call.event.is_none() {
            return Err(Refused::NoEvent);
        }
        if self.has_read_too_much() {
            return Err(Refused::ReadTooMuch(self.app.settings.limits.commands));
        }
        let most = self.app.settings.limits.value;
        if let Change::Set { value, .. } = &change
            && value.len() > most
        {
            let size = value.len();
            return Err(Refused::TooLarge { size, most });
        }
        self.call.write(KeyChange {
            bucket: bucket.clone(),
            key: key.into(),
            change,
        })
    }

    /// Whether the event has read more keys than can be checked at its commit, which it may if it writes nothing.
    fn has_read_too_much(&self) -> bool {
        self.call.view.reads() > self.app.settings.limits.commands
    }

    /// The most bytes that one answer of the store may have: what an event may write, and no more than the handler can hold.
    fn most_bytes(&self) -> usize {
        let limits = &self.app.settings.limits;
        limits.bytes.min(limits.memory)
    }

    /// The value of a key as the present event sees it.
    pub(crate) async fn value(&mut self, bucket: &Text, key: Text) -> Result<Option<Bytes>, Error> {
        let mut values = self.values(bucket, &[key]).await?;
        Ok(values.pop().flatten())
    }

    /// The values of these keys as the present event sees them. A key that is named twice is read once.
    pub(crate) async fn values(&mut self, bucket: &Text, keys: &[Text]) -> Result<Vec<Option<Bytes>>, Error> {
        let mut asked: Vec<Text> = Vec::new();
        let mut places: HashMap<&Text, usize> = HashMap::new();
        for key in keys {
            if matches!(self.call.view.own(bucket, key), Own::Value(_)) {
                continue;
            }
            if keys.len() == 1 {
                // There is nothing to tell it from.
                asked.push(key.clone());
                continue;
            }
            places.entry(key).or_insert_with(|| {
                asked.push(key.clone());
                asked.len() - 1
            });
        }
        let stored = self.stored(bucket, &asked).await?;
        if self.call.event.is_some() {
            for (key, value) in asked.into_iter().zip(&stored) {
                self.call.view.saw(bucket, key, value.as_ref());
            }
            if self.call.view.has_written() && self.has_read_too_much() {
                let most = self.app.settings.limits.commands;
                return Err(Error::Other(Refused::ReadTooMuch(most).to_string()));
            }
        }
        let most = self.most_bytes();
        let mut left = most;
        let mut values = Vec::with_capacity(keys.len());
        for key in keys {
            let stored = || stored[places.get(key).copied().unwrap_or(0)].clone();
            let value = match self.call.view.own(bucket, key) {
                Own::Value(value) => value.cloned(),
                Own::Nothing => stored(),
                Own::Added(delta) => Some(sum(key, stored(), delta)?),
            };
            let size = value.as_ref().map_or(0, Bytes::len);
            let Some(rest) = left.checked_sub(size) else {
                return Err(Error::Other(KeyValueError::TooLarge(most).to_string()));
            };
            left = rest;
            values.push(value);
        }
        Ok(values)
    }

    /// Adds to an integer and tells the sum, which holds at the commit: it is a read like any other.
    pub(crate) async fn increment(&mut self, bucket: &Text, key: String, delta: u64) -> Result<u64, Error> {
        let other = |reason: &str| Error::Other(format!("cannot increment key {key:?}: {reason}"));
        let delta = i64::try_from(delta).map_err(|_| other("the sum is too large"))?;
        let value = self.value(bucket, key.as_str().into()).await?;
        let number = match value {
            None => 0,
            Some(value) => integer_of(&value).ok_or_else(|| other("its value is no integer"))?,
        };
        let sum = sum_of(number, delta).ok_or_else(|| other("the sum is too large"))?;
        let sum = u64::try_from(sum).map_err(|_| other("the sum is negative"))?;
        self.note_writes(bucket, [(key, Change::Add(delta))])?;
        Ok(sum)
    }

    /// Sets a value if the event still sees what was looked at, and says whether it did; else looks again.
    pub(crate) async fn swap(&mut self, cas: &mut Cas, value: Vec<u8>) -> Result<bool, Error> {
        let view = &self.call.view;
        let is_untouched = matches!(view.own(&cas.bucket, &cas.key), Own::Nothing);
        // A handle may be of an earlier event.
        if !is_untouched || !view.has_seen(&cas.bucket, &cas.key, cas.current.as_ref()) {
            let current = self.value(&cas.bucket, cas.key.clone()).await?;
            if current != cas.current {
                cas.current = current;
                return Ok(false);
            }
        }
        self.note_writes(&cas.bucket, [(cas.key.to_string(), Change::set(value))])?;
        Ok(true)
    }

    /// Some of the keys that begin with `prefix`, as the present event sees them. Those that it has added come with the last
    /// page.
    pub(crate) async fn page(&mut self, bucket: &Text, prefix: &str, cursor: u64) -> Result<KeyResponse, Error> {
        let store = self.app.settings.key_value.clone();
        let most = self.most_bytes();
        let (mut keys, next) = self.answered(store.keys(bucket, prefix, cursor, most)).await?;
        keys.retain(|key| !matches!(self.call.view.own(bucket, key), Own::Value(None)));
        if next.is_none() {
            let written = self.call.view.set_keys(bucket);
            let written: Vec<Text> = written.filter(|key| key.starts_with(prefix)).cloned().collect();
            for key in written {
                // One by one, for their values may be large.
                let is_stored = match self.answered(store.get(bucket, std::slice::from_ref(&key), most)).await {
                    Ok(values) => values.iter().any(Option::is_some),
                    Err(error) => return Err(error),
                };
                if !is_stored {
                    keys.push(key);
                }
            }
        }
        Ok(KeyResponse {
            keys: keys.into_iter().map(String::from).collect(),
            cursor: next,
        })
    }

    /// The values of these keys as of the last commit.
    async fn stored(&mut self, bucket: &Text, keys: &[Text]) -> Result<Vec<Option<Bytes>>, Error> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let store = self.app.settings.key_value.clone();
        let most = self.most_bytes();
        self.answered(store.get(bucket, keys, most)).await
    }

    /// Waits for the store as long as the event has time. A store that fails, or takes most of that time for one answer,
    /// is away, or was asked for too much: that is found out once the handler has returned.
    async fn answered<T>(&mut self, answer: impl Future<Output = Result<T, KeyValueError>>) -> Result<T, Error> {
        if let Some(absence) = &self.call.absence {
            return Err(Error::Other(absence.words.clone()));
        }
        let (asked, limit) = (Instant::now(), self.call.limit);
        let absence = match timeout_at(self.call.deadline.into(), answer).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(error @ KeyValueError::TooLarge(_))) => return Err(Error::Other(error.to_string())),
            Ok(Err(error @ KeyValueError::Unavailable(_))) => Absence {
                words: error.to_string(),
                late_since: None,
            },
            Err(_) if asked.elapsed() >= limit / 2 => {
                // Some time to take it well, rather than to be broken off for it.
                let deadline = self.call.deadline + GRACE / 2;
                self.set_deadline(deadline);
                Absence {
                    words: "key-value store: it does not answer in time".to_owned(),
                    late_since: Some(asked),
                }
            }
            // The handler had used up its time by itself.
            Err(_) => {
                return Err(Error::Other(
                    "key-value store: no time is left to wait for it".to_owned(),
                ));
            }
        };
        let words = absence.words.clone();
        self.call.absence = Some(absence);
        Err(Error::Other(words))
    }
}

/// A value with what the event has added to it.
fn sum(key: &Text, stored: Option<Bytes>, delta: i64) -> Result<Bytes, Error> {
    let number = stored.map_or(Some(0), |value| integer_of(&value));
    let sum = number.and_then(|number| sum_of(number, delta));
    let sum = sum.ok_or_else(|| {
        Error::Other(format!(
            "this event adds to key {key:?}, which cannot be done: its value is no integer, or the sum is too large"
        ))
    })?;
    Ok(sum.to_string().into())
}
