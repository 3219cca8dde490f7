//! `plugnode:app/kv`: operations on buckets that `wasi:keyvalue` lacks: signed addition, expiry, and keys by prefix.

use wasmtime::component::HasSelf;

use super::definition::{Capability, Package};
use super::keyvalue::GRANT;
use crate::bindings::plugnode::app::kv::{self, Error, Page};
use crate::bindings::wasi::keyvalue::store;
use crate::contract;
use crate::state::{InstanceState, WriteRefused};
use plugnode_message::{Change, Text};

pub(super) const CAPABILITY: Capability = Capability {
    serves: &[Package {
        name: contract::PACKAGE,
        version: contract::VERSION,
        interfaces: &["kv"],
    }],
    grant: Some(GRANT),
    link: |linker| kv::add_to_linker::<InstanceState, HasSelf<InstanceState>>(linker, |state| state),
};

/// Outer error: the call traps. Inner error: the handler gets it.
type HostResult<T> = wasmtime::Result<Result<T, Error>>;

impl kv::Host for InstanceState {
    fn add(&mut self, bucket: String, key: String, delta: i64) -> HostResult<()> {
        Ok(self.change(bucket, key, Change::Add(delta)))
    }

    fn set_with_ttl(&mut self, bucket: String, key: String, value: Vec<u8>, ttl_ms: u64) -> HostResult<()> {
        let value = value.into();
        let ttl_ms = Some(ttl_ms);
        Ok(self.change(bucket, key, Change::Set { value, ttl_ms }))
    }

    async fn list_keys(&mut self, bucket: String, prefix: String, cursor: Option<u64>) -> HostResult<Page> {
        if let Err(error) = self.check_bucket(&bucket) {
            return Ok(Err(from_store_error(error, &bucket)));
        }
        let bucket = Text::from(bucket);
        let page = self.page(&bucket, &prefix, cursor.unwrap_or(0)).await;
        let page = page.map_err(|error| from_store_error(error, &bucket));
        Ok(page.map(|page| Page {
            keys: page.keys,
            cursor: page.cursor,
        }))
    }
}

impl InstanceState {
    /// Writes to a bucket that the app is granted.
    pub(crate) fn change(&mut self, bucket: String, key: String, change: Change) -> Result<(), Error> {
        self.check_bucket(&bucket)
            .map_err(|error| from_store_error(error, &bucket))?;
        self.add_write(&bucket.into(), key, change)
            .map_err(|refused| match refused {
                WriteRefused::QuotaExceeded => Error::QuotaExceeded,
                WriteRefused::NoEvent => Error::Denied(refused.to_string()),
                WriteRefused::Impossible(reason) => Error::Invalid(reason),
                WriteRefused::TooLarge(_) => Error::Invalid(refused.to_string()),
                WriteRefused::ReadTooMuch(_) => Error::Other(refused.to_string()),
            })
    }
}

fn from_store_error(error: store::Error, bucket: &str) -> Error {
    match error {
        store::Error::NoSuchStore | store::Error::AccessDenied => Error::Denied(format!(
            "bucket {bucket:?} is not granted: add it to `grants.keyvalue` of the app"
        )),
        store::Error::Other(reason) => Error::Other(reason),
    }
}
