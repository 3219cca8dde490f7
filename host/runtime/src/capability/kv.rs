//! `plugnode:app/kv`: what the buckets of `wasi:keyvalue` can do beyond what that has.

use wasmtime::component::HasSelf;

use super::keyvalue::GRANT;
use super::{Capability, Package};
use crate::bindings::plugnode::app::kv::{self, Error, Page};
use crate::bindings::wasi::keyvalue::store;
use crate::inspect::CONTRACT;
use crate::state::{Refused, State};
use plugnode_message::{Change, Text};

pub(super) const CAPABILITY: Capability = Capability {
    serves: &[Package {
        name: CONTRACT.0,
        version: CONTRACT.1,
        interfaces: &["kv"],
    }],
    grant: Some(GRANT),
    link: |linker| kv::add_to_linker::<State, HasSelf<State>>(linker, |state| state),
};

type Answer<T> = wasmtime::Result<Result<T, Error>>;

impl kv::Host for State {
    fn add(&mut self, bucket: String, key: String, delta: i64) -> Answer<()> {
        Ok(self.change(bucket, key, Change::Add(delta)))
    }

    fn set_with_ttl(&mut self, bucket: String, key: String, value: Vec<u8>, ttl_ms: u64) -> Answer<()> {
        let value = value.into();
        let ttl_ms = Some(ttl_ms);
        Ok(self.change(bucket, key, Change::Set { value, ttl_ms }))
    }

    async fn list_keys(&mut self, bucket: String, prefix: String, cursor: Option<u64>) -> Answer<Page> {
        if let Err(error) = self.check_bucket(&bucket) {
            return Ok(Err(of_store(error, &bucket)));
        }
        let bucket = Text::from(bucket);
        let page = self.page(&bucket, &prefix, cursor.unwrap_or(0)).await;
        let page = page.map_err(|error| of_store(error, &bucket));
        Ok(page.map(|page| Page {
            keys: page.keys,
            cursor: page.cursor,
        }))
    }
}

impl State {
    /// Takes a write of a handler.
    pub(crate) fn change(&mut self, bucket: String, key: String, change: Change) -> Result<(), Error> {
        self.check_bucket(&bucket).map_err(|error| of_store(error, &bucket))?;
        self.note_write(&bucket.into(), key, change)
            .map_err(|refused| match refused {
                Refused::QuotaExceeded => Error::QuotaExceeded,
                Refused::NoEvent => Error::Denied(refused.to_string()),
                Refused::Impossible(reason) => Error::Invalid(reason),
                Refused::TooLarge { .. } => Error::Invalid(refused.to_string()),
                Refused::ReadTooMuch(_) => Error::Other(refused.to_string()),
            })
    }
}

fn of_store(error: store::Error, bucket: &str) -> Error {
    match error {
        store::Error::NoSuchStore | store::Error::AccessDenied => Error::Denied(format!(
            "bucket {bucket:?} is not granted: add it to `keyvalue` in the app's `grants`"
        )),
        store::Error::Other(words) => Error::Other(words),
    }
}
