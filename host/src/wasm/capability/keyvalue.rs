//! `wasi:keyvalue`: reads see the last commit and, over it, what the present event has written itself; writes are
//! effects of the event and reach the others when it is committed.

use std::collections::BTreeMap;
use std::time::Instant;

use bytes::Bytes;
use tokio::time::timeout_at;
use wasmtime::component::{HasSelf, Resource};

use super::{Capability, Grant, Package};
use crate::message::{KeyValueError, Text, Write};
use crate::wasm::bindings::wasi::keyvalue::store::{Error, KeyResponse};
use crate::wasm::bindings::wasi::keyvalue::{batch, store};
use crate::wasm::state::{GRACE, QuotaExceeded, State};

pub(super) const CAPABILITY: Capability = Capability {
    serves: &[Package {
        name: "wasi:keyvalue",
        version: "0.2.0-draft",
        interfaces: &["store", "batch"],
    }],
    grant: Some(Grant {
        is_given: |grants| !grants.keyvalue.is_empty(),
        remedy: "name the buckets it may open in the app's configuration, as in grants.keyvalue = [\"default\"]",
    }),
    link: |linker| {
        store::add_to_linker::<State, HasSelf<State>>(linker, |state| state)?;
        batch::add_to_linker::<State, HasSelf<State>>(linker, |state| state)
    },
};

/// A bucket that a handler has open.
#[derive(Debug)]
#[allow(unreachable_pub, reason = "the generated bindings export it on")]
pub struct Bucket {
    name: Text,
}

/// What the present event has written: by bucket and key, the last value, or none for what it has deleted.
#[derive(Debug, Default)]
pub(in crate::wasm) struct Overlay(BTreeMap<Text, BTreeMap<Text, Option<Bytes>>>);

impl Overlay {
    /// Takes a write over those before it.
    pub(in crate::wasm) fn note(&mut self, write: &Write) {
        self.0
            .entry(write.bucket.clone())
            .or_default()
            .insert(write.key.clone(), write.value.clone());
    }

    /// What was written to a key. None when nothing was.
    fn get(&self, bucket: &Text, key: &Text) -> Option<&Option<Bytes>> {
        self.0.get(bucket)?.get(key)
    }

    /// The keys that have a value since.
    fn set_keys(&self, bucket: &Text) -> Vec<Text> {
        let writes = self.0.get(bucket).into_iter().flatten();
        writes
            .filter(|(_, value)| value.is_some())
            .map(|(key, _)| key.clone())
            .collect()
    }
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
        let values = self.values(&bucket, &[key.into()]).await;
        Ok(values.map(|values| values.into_iter().next().flatten().map(Vec::from)))
    }

    fn set(&mut self, bucket: Resource<Bucket>, key: String, value: Vec<u8>) -> Answer<()> {
        let bucket = self.bucket(&bucket)?;
        Ok(self.note_writes(&bucket, [(key, Some(value))]))
    }

    fn delete(&mut self, bucket: Resource<Bucket>, key: String) -> Answer<()> {
        let bucket = self.bucket(&bucket)?;
        Ok(self.note_writes(&bucket, [(key, None)]))
    }

    async fn exists(&mut self, bucket: Resource<Bucket>, key: String) -> Answer<bool> {
        let bucket = self.bucket(&bucket)?;
        let values = self.values(&bucket, &[key.into()]).await;
        Ok(values.map(|values| values.iter().any(Option::is_some)))
    }

    async fn list_keys(&mut self, bucket: Resource<Bucket>, cursor: Option<u64>) -> Answer<KeyResponse> {
        let bucket = self.bucket(&bucket)?;
        Ok(self.page(&bucket, cursor.unwrap_or(0)).await)
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
        Ok(self.note_writes(&bucket, pairs.into_iter().map(|(key, value)| (key, Some(value)))))
    }

    fn delete_many(&mut self, bucket: Resource<Bucket>, keys: Vec<String>) -> Answer<()> {
        let bucket = self.bucket(&bucket)?;
        Ok(self.note_writes(&bucket, keys.into_iter().map(|key| (key, None))))
    }
}

impl State {
    fn bucket(&self, bucket: &Resource<Bucket>) -> wasmtime::Result<Text> {
        Ok(self.table.get(bucket)?.name.clone())
    }

    /// Whether the app has this bucket.
    pub(in crate::wasm) fn check_bucket(&self, name: &str) -> Result<(), Error> {
        let granted = &self.app.settings.grants.keyvalue;
        match granted.iter().any(|granted| granted == name) {
            true => Ok(()),
            false => Err(Error::AccessDenied),
        }
    }

    pub(in crate::wasm) fn note_writes(
        &mut self,
        bucket: &Text,
        pairs: impl IntoIterator<Item = (String, Option<Vec<u8>>)>,
    ) -> Result<(), Error> {
        if self.call.event.is_none() {
            let words = "there is no event that this write could belong to: write while one is handled";
            return Err(Error::Other(words.to_owned()));
        }
        let most = self.app.settings.limits.value;
        for (key, value) in pairs {
            if let Some(size) = value.as_ref().map(Vec::len).filter(|size| *size > most) {
                return Err(Error::Other(format!(
                    "a value of {size} bytes is over the app's limit of {most}: store less under one key, or raise limits.value"
                )));
            }
            let write = Write {
                bucket: bucket.clone(),
                key: key.into(),
                value: value.map(Bytes::from),
            };
            if let Err(QuotaExceeded) = self.call.write(write) {
                let words = "this event has used up the writes or bytes that the app's limits allow";
                return Err(Error::Other(words.to_owned()));
            }
        }
        Ok(())
    }

    /// The values of these keys as the present event sees them.
    pub(in crate::wasm) async fn values(&mut self, bucket: &Text, keys: &[Text]) -> Result<Vec<Option<Bytes>>, Error> {
        let mut values: Vec<Option<Option<Bytes>>> = keys
            .iter()
            .map(|key| self.call.overlay.get(bucket, key).cloned())
            .collect();
        let missing: Vec<Text> = keys
            .iter()
            .zip(&values)
            .filter(|(_, value)| value.is_none())
            .map(|(key, _)| key.clone())
            .collect();
        let mut stored = self.stored(bucket, &missing).await?.into_iter();
        for value in values.iter_mut().filter(|value| value.is_none()) {
            *value = stored.next();
        }
        Ok(values.into_iter().map(Option::flatten).collect())
    }

    /// A page of keys as the present event sees them. Those that it has added come with the last page.
    pub(in crate::wasm) async fn page(&mut self, bucket: &Text, cursor: u64) -> Result<KeyResponse, Error> {
        let store = self.app.settings.key_value.clone();
        let (mut keys, next) = self.answered(store.keys(bucket, cursor)).await?;
        keys.retain(|key| !matches!(self.call.overlay.get(bucket, key), Some(None)));
        if next.is_none() {
            let written = self.call.overlay.set_keys(bucket);
            let stored = self.stored(bucket, &written).await?;
            keys.extend(
                written
                    .into_iter()
                    .zip(stored)
                    .filter(|(_, stored)| stored.is_none())
                    .map(|(key, _)| key),
            );
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
        self.answered(store.get(bucket, keys)).await
    }

    /// Waits for the store as long as the event has time. A store that fails, or takes most of that time for one answer,
    /// is away: that is no fault of the event, whatever its handler makes of it.
    async fn answered<T>(&mut self, answer: impl Future<Output = Result<T, KeyValueError>>) -> Result<T, Error> {
        if let Some(words) = &self.call.unavailable {
            return Err(Error::Other(words.clone()));
        }
        let (asked, limit) = (Instant::now(), self.call.limit);
        let words = match timeout_at(self.call.deadline.into(), answer).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(error)) => error.to_string(),
            Err(_) if asked.elapsed() >= limit / 2 => {
                // Some time to take it well, rather than to be broken off for it.
                let deadline = self.call.deadline + GRACE / 2;
                self.set_deadline(deadline);
                "key-value store: it does not answer".to_owned()
            }
            // The handler had used up its time by itself.
            Err(_) => {
                return Err(Error::Other(
                    "key-value store: no time is left to wait for it".to_owned(),
                ));
            }
        };
        self.call.unavailable = Some(words.clone());
        Err(Error::Other(words))
    }
}
