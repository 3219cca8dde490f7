//! `wasi:keyvalue`: optimistic transactions. Reads see the last commit, overlaid by the writes of the current event. Writes are
//! effects of the event: they are committed with it, unless a key that it read has changed meanwhile.

use std::collections::HashMap;
use std::time::Instant;

use bytes::Bytes;
use tokio::time::timeout_at;
use wasmtime::component::{HasSelf, Resource};

use super::definition::{Capability, Grant, Package};
use crate::bindings::wasi::keyvalue::atomics::CasError;
use crate::bindings::wasi::keyvalue::store::{Error, KeyResponse};
use crate::bindings::wasi::keyvalue::{atomics, batch, store};
use crate::keyvalue_resources::{Bucket, Cas};
use crate::keyvalue_view::OwnWrite;
use crate::state::{GRACE, HostFailure, InstanceState, WriteRefused};
use plugnode_message::{Change, KeyChange, KeyValueError, Text, integer_of, sum_of};

pub(super) const CAPABILITY: Capability = Capability {
    serves: &[Package {
        name: "wasi:keyvalue",
        version: "0.2.0-draft",
        interfaces: &["store", "batch", "atomics"],
    }],
    grant: Some(GRANT),
    link: |linker| {
        store::add_to_linker::<InstanceState, HasSelf<InstanceState>>(linker, |state| state)?;
        batch::add_to_linker::<InstanceState, HasSelf<InstanceState>>(linker, |state| state)?;
        atomics::add_to_linker::<InstanceState, HasSelf<InstanceState>>(linker, |state| state)
    },
};

/// The grant of buckets, which `plugnode:app/kv` needs as well.
pub(super) const GRANT: Grant = Grant {
    is_given: |grants| !grants.keyvalue.is_empty(),
    remedy: "name the buckets it may open in the app's configuration, as in grants.keyvalue = [\"default\"]",
};

/// Outer error: the call traps. Inner error: the handler gets it.
type HostResult<T> = wasmtime::Result<Result<T, Error>>;

impl store::Host for InstanceState {
    fn open(&mut self, identifier: String) -> HostResult<Resource<Bucket>> {
        if let Err(error) = self.check_bucket(&identifier) {
            return Ok(Err(error));
        }
        Ok(Ok(self.table.push(Bucket {
            name: identifier.into(),
        })?))
    }
}

impl store::HostBucket for InstanceState {
    async fn get(&mut self, bucket: Resource<Bucket>, key: String) -> HostResult<Option<Vec<u8>>> {
        let bucket = self.bucket(&bucket)?;
        let value = self.value(&bucket, key.into()).await;
        Ok(value.map(|value| value.map(Vec::from)))
    }

    fn set(&mut self, bucket: Resource<Bucket>, key: String, value: Vec<u8>) -> HostResult<()> {
        let bucket = self.bucket(&bucket)?;
        Ok(self.add_writes(&bucket, [(key, Change::set(value))]))
    }

    fn delete(&mut self, bucket: Resource<Bucket>, key: String) -> HostResult<()> {
        let bucket = self.bucket(&bucket)?;
        Ok(self.add_writes(&bucket, [(key, Change::Delete)]))
    }

    async fn exists(&mut self, bucket: Resource<Bucket>, key: String) -> HostResult<bool> {
        let bucket = self.bucket(&bucket)?;
        let value = self.value(&bucket, key.into()).await;
        Ok(value.map(|value| value.is_some()))
    }

    async fn list_keys(&mut self, bucket: Resource<Bucket>, cursor: Option<u64>) -> HostResult<KeyResponse> {
        let bucket = self.bucket(&bucket)?;
        Ok(self.page(&bucket, "", cursor.unwrap_or(0)).await)
    }

    fn drop(&mut self, bucket: Resource<Bucket>) -> wasmtime::Result<()> {
        self.table.delete(bucket)?;
        Ok(())
    }
}

impl batch::Host for InstanceState {
    async fn get_many(
        &mut self,
        bucket: Resource<Bucket>,
        keys: Vec<String>,
    ) -> HostResult<Vec<Option<(String, Vec<u8>)>>> {
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

    fn set_many(&mut self, bucket: Resource<Bucket>, pairs: Vec<(String, Vec<u8>)>) -> HostResult<()> {
        let bucket = self.bucket(&bucket)?;
        Ok(self.add_writes(&bucket, pairs.into_iter().map(|(key, value)| (key, Change::set(value)))))
    }

    fn delete_many(&mut self, bucket: Resource<Bucket>, keys: Vec<String>) -> HostResult<()> {
        let bucket = self.bucket(&bucket)?;
        Ok(self.add_writes(&bucket, keys.into_iter().map(|key| (key, Change::Delete))))
    }
}

impl atomics::Host for InstanceState {
    async fn increment(&mut self, bucket: Resource<Bucket>, key: String, delta: u64) -> HostResult<u64> {
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

impl atomics::HostCas for InstanceState {
    async fn new(&mut self, bucket: Resource<Bucket>, key: String) -> HostResult<Resource<Cas>> {
        let (bucket, key) = (self.bucket(&bucket)?, Text::from(key));
        let current = match self.value(&bucket, key.clone()).await {
            Ok(current) => current,
            Err(error) => return Ok(Err(error)),
        };
        Ok(Ok(self.table.push(Cas { bucket, key, current })?))
    }

    fn current(&mut self, cas: Resource<Cas>) -> HostResult<Option<Vec<u8>>> {
        let current = &self.table.get(&cas)?.current;
        Ok(Ok(current.as_ref().map(|value| value.to_vec())))
    }

    fn drop(&mut self, cas: Resource<Cas>) -> wasmtime::Result<()> {
        self.table.delete(cas)?;
        Ok(())
    }
}

impl InstanceState {
    fn bucket(&self, bucket: &Resource<Bucket>) -> wasmtime::Result<Text> {
        Ok(self.table.get(bucket)?.name.clone())
    }

    /// Denies a bucket that the app is not granted.
    pub(crate) fn check_bucket(&self, name: &str) -> Result<(), Error> {
        let granted = &self.app.settings.handler.grants.keyvalue;
        match granted.iter().any(|granted| granted == name) {
            true => Ok(()),
            false => Err(Error::AccessDenied),
        }
    }

    pub(crate) fn add_writes(
        &mut self,
        bucket: &Text,
        changes: impl IntoIterator<Item = (String, Change)>,
    ) -> Result<(), Error> {
        for (key, change) in changes {
            self.add_write(bucket, key, change)
                .map_err(|refused| Error::Other(refused.to_string()))?;
        }
        Ok(())
    }

    pub(crate) fn add_write(&mut self, bucket: &Text, key: String, change: Change) -> Result<(), WriteRefused> {
        if self.call.event.is_none() {
            return Err(WriteRefused::NoEvent);
        }
        if self.has_read_too_much() {
            return Err(WriteRefused::ReadTooMuch(self.app.settings.handler.limits.commands));
        }
        if let Change::Set { value, .. } = &change {
            let limits = self.command_rules().limits;
            limits.check_value(value).map_err(WriteRefused::TooLarge)?;
        }
        self.call.add_write(KeyChange {
            bucket: bucket.clone(),
            key: key.into(),
            change,
        })
    }

    /// Whether the event has read more keys than its commit can check. It may, if it writes nothing.
    fn has_read_too_much(&self) -> bool {
        self.call.view.read_count() > self.app.settings.handler.limits.commands
    }

    /// Largest answer of the store, in bytes: what an event may write, and not more than the handler's memory.
    fn max_answer(&self) -> usize {
        let limits = &self.app.settings.handler.limits;
        limits.bytes.min(limits.memory)
    }

    /// The value of a key, as the current event sees it.
    pub(crate) async fn value(&mut self, bucket: &Text, key: Text) -> Result<Option<Bytes>, Error> {
        let mut values = self.values(bucket, &[key]).await?;
        Ok(values.pop().flatten())
    }

    /// The values of these keys, as the current event sees them. A key that occurs twice is read once.
    pub(crate) async fn values(&mut self, bucket: &Text, keys: &[Text]) -> Result<Vec<Option<Bytes>>, Error> {
        let mut asked: Vec<Text> = Vec::new();
        let mut indices: HashMap<&Text, usize> = HashMap::new();
        for key in keys {
            if matches!(self.call.view.own_write(bucket, key), OwnWrite::Value(_)) {
                continue;
            }
            if keys.len() == 1 {
                // A single key needs no index.
                asked.push(key.clone());
                continue;
            }
            indices.entry(key).or_insert_with(|| {
                asked.push(key.clone());
                asked.len() - 1
            });
        }
        let stored = self.stored(bucket, &asked).await?;
        if self.call.event.is_some() {
            for (key, value) in asked.into_iter().zip(&stored) {
                self.call.view.record_read(bucket, key, value.as_ref());
            }
            if self.call.view.has_written() && self.has_read_too_much() {
                let most = self.app.settings.handler.limits.commands;
                return Err(Error::Other(WriteRefused::ReadTooMuch(most).to_string()));
            }
        }
        let most = self.max_answer();
        let mut left = most;
        let mut values = Vec::with_capacity(keys.len());
        for key in keys {
            let stored = || stored[indices.get(key).copied().unwrap_or(0)].clone();
            let value = match self.call.view.own_write(bucket, key) {
                OwnWrite::Value(value) => value.cloned(),
                OwnWrite::None => stored(),
                OwnWrite::Added(delta) => Some(sum(key, stored(), delta)?),
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

    /// Adds to an integer and returns the sum. It counts as a read: the commit fails if the integer has changed.
    pub(crate) async fn increment(&mut self, bucket: &Text, key: String, delta: u64) -> Result<u64, Error> {
        let other = |reason: &str| Error::Other(format!("cannot increment key {key:?}: {reason}"));
        let delta = i64::try_from(delta).map_err(|_| other("the sum is too large"))?;
        let value = self.value(bucket, key.as_str().into()).await?;
        let number = match value {
            None => 0,
            Some(value) => integer_of(&value).ok_or_else(|| other("its value is not an integer"))?,
        };
        let sum = sum_of(number, delta).ok_or_else(|| other("the sum is too large"))?;
        let sum = u64::try_from(sum).map_err(|_| other("the sum is negative"))?;
        self.add_writes(bucket, [(key, Change::Add(delta))])?;
        Ok(sum)
    }

    /// Sets the value if it is still the one in the handle, and returns whether it did. Otherwise updates the handle.
    pub(crate) async fn swap(&mut self, cas: &mut Cas, value: Vec<u8>) -> Result<bool, Error> {
        let view = &self.call.view;
        let is_untouched = matches!(view.own_write(&cas.bucket, &cas.key), OwnWrite::None);
        // The handle may be from an earlier event.
        if !is_untouched || !view.has_read(&cas.bucket, &cas.key, cas.current.as_ref()) {
            let current = self.value(&cas.bucket, cas.key.clone()).await?;
            if current != cas.current {
                cas.current = current;
                return Ok(false);
            }
        }
        self.add_writes(&cas.bucket, [(cas.key.to_string(), Change::set(value))])?;
        Ok(true)
    }

    /// One page of the keys with this prefix, as the current event sees them. Keys that it has added come on the last page.
    pub(crate) async fn page(&mut self, bucket: &Text, prefix: &str, cursor: u64) -> Result<KeyResponse, Error> {
        let store = self.app.settings.key_value.clone();
        let most = self.max_answer();
        let (mut keys, next) = self.wait_for_store(store.keys(bucket, prefix, cursor, most)).await?;
        keys.retain(|key| !matches!(self.call.view.own_write(bucket, key), OwnWrite::Value(None)));
        if next.is_none() {
            let written = self.call.view.set_keys(bucket);
            let written: Vec<Text> = written.filter(|key| key.starts_with(prefix)).cloned().collect();
            for key in written {
                // One at a time, since the values may be large.
                let is_stored = match self
                    .wait_for_store(store.get(bucket, std::slice::from_ref(&key), most))
                    .await
                {
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

    /// The committed values of these keys.
    async fn stored(&mut self, bucket: &Text, keys: &[Text]) -> Result<Vec<Option<Bytes>>, Error> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let store = self.app.settings.key_value.clone();
        let most = self.max_answer();
        self.wait_for_store(store.get(bucket, keys, most)).await
    }

    /// Waits for the store until the event's deadline. If the store fails, or takes more than half of the event's time for
    /// one answer, records a host failure: once the handler has returned, it is decided whether the store is unavailable or
    /// the event reads too much.
    pub(super) async fn wait_for_store<T>(
        &mut self,
        answer: impl Future<Output = Result<T, KeyValueError>>,
    ) -> Result<T, Error> {
        if let Some(failure) = &self.call.host_failure {
            return Err(Error::Other(failure.reason.clone()));
        }
        let (began, limit) = (Instant::now(), self.call.limit);
        let failure = match timeout_at(self.call.deadline.into(), answer).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(error @ KeyValueError::TooLarge(_))) => return Err(Error::Other(error.to_string())),
            Ok(Err(error @ KeyValueError::Unavailable(_))) => HostFailure {
                reason: error.to_string(),
                timed_out_since: None,
            },
            Err(_) if began.elapsed() >= limit / 2 => {
                // Extra time, so that the handler can return rather than be interrupted.
                let deadline = self.call.deadline + GRACE / 2;
                self.set_deadline(deadline);
                HostFailure {
                    reason: "key-value store: no answer within the event's time".to_owned(),
                    timed_out_since: Some(began),
                }
            }
            // The handler had used up most of its time itself.
            Err(_) => {
                return Err(Error::Other(
                    "key-value store: no time is left to wait for it".to_owned(),
                ));
            }
        };
        let reason = failure.reason.clone();
        self.call.host_failure = Some(failure);
        Err(Error::Other(reason))
    }
}

/// The stored value plus what the event has added to it.
fn sum(key: &Text, stored: Option<Bytes>, delta: i64) -> Result<Bytes, Error> {
    let number = stored.map_or(Some(0), |value| integer_of(&value));
    let sum = number.and_then(|number| sum_of(number, delta));
    let sum = sum.ok_or_else(|| {
        Error::Other(format!(
            "cannot read key {key:?}: this event adds to it, and its value is not an integer or the sum is too large"
        ))
    })?;
    Ok(sum.to_string().into())
}
