//! Host calls of native handlers: the same functions that components import, so that the same rules apply.

use plugnode_sdk::native::{
    Command, Error, Host, KeyPage, KvError, Level, Member, PresenceError, PresencePage, StoreError,
};

use super::blocking_reads::BlockingReads;
use super::convert::{kv_error, store_error};
use crate::bindings::plugnode::app::presence;
use crate::bindings::wasi::keyvalue::store;
use crate::bindings::wasi::logging::logging::{self, Host as Logging};
use crate::state::InstanceState;
use plugnode_message::{Change, Text};

/// The host of the call that runs on this thread.
pub(super) struct NativeHost {
    pub(super) state: Box<InstanceState>,
    pub(super) reads: BlockingReads,
}

impl Host for NativeHost {
    fn command(&mut self, command: Command) -> Result<(), Error> {
        self.state.record(command)
    }

    fn open(&mut self, bucket: &str) -> Result<(), StoreError> {
        self.state.check_bucket(bucket).map_err(store_error)
    }

    fn get(&mut self, bucket: &str, keys: &[String]) -> Result<Vec<Option<Vec<u8>>>, StoreError> {
        let keys: Vec<Text> = keys.iter().map(|key| key.as_str().into()).collect();
        let bucket = bucket.into();
        let reading = self.state.values(&bucket, &keys);
        let values = self.reads.wait(reading).map_err(store_error)?;
        Ok(values.into_iter().map(|value| value.map(Vec::from)).collect())
    }

    fn keys(&mut self, bucket: &str, prefix: &str, cursor: Option<u64>) -> Result<KeyPage, StoreError> {
        let bucket = bucket.into();
        let reading = self.state.page(&bucket, prefix, cursor.unwrap_or(0));
        let page = self.reads.wait(reading).map_err(store_error)?;
        Ok(KeyPage {
            keys: page.keys,
            cursor: page.cursor,
        })
    }

    fn write(&mut self, bucket: &str, pairs: Vec<(String, Option<Vec<u8>>)>) -> Result<(), StoreError> {
        let changes = pairs.into_iter().map(|(key, value)| match value {
            Some(value) => (key, Change::set(value)),
            None => (key, Change::Delete),
        });
        self.state.add_writes(&bucket.into(), changes).map_err(store_error)
    }

    fn add(&mut self, bucket: &str, key: &str, delta: i64) -> Result<(), KvError> {
        let change = Change::Add(delta);
        self.state.change(bucket.into(), key.into(), change).map_err(kv_error)
    }

    fn set_with_ttl(&mut self, bucket: &str, key: &str, value: &[u8], ttl_ms: u64) -> Result<(), KvError> {
        let change = Change::Set {
            value: value.to_vec().into(),
            ttl_ms: Some(ttl_ms),
        };
        self.state.change(bucket.into(), key.into(), change).map_err(kv_error)
    }

    fn presence_count(&mut self, channel: &str) -> Result<u64, PresenceError> {
        let reading = async { Ok(self.state.presence_count(channel).await) };
        self.reads.wait(reading).map_err(no_presence)?.map_err(presence_error)
    }

    fn presence(&mut self, channel: &str, cursor: Option<u64>) -> Result<PresencePage, PresenceError> {
        let reading = async { Ok(self.state.presence_page(channel, cursor).await) };
        let page = self.reads.wait(reading).map_err(no_presence)?.map_err(presence_error)?;
        let members = page.members.into_iter().map(|member| Member {
            client: member.client,
            since_ms: member.since_ms,
            attributes: member.attributes,
        });
        Ok(PresencePage {
            members: members.collect(),
            cursor: page.cursor,
        })
    }

    fn config(&mut self) -> Vec<(String, String)> {
        self.state.app.settings.handler.config.clone().into_iter().collect()
    }

    fn log(&mut self, level: Level, context: &str, message: &str) {
        let level = match level {
            Level::Trace => logging::Level::Trace,
            Level::Debug => logging::Level::Debug,
            Level::Info => logging::Level::Info,
            Level::Warn => logging::Level::Warn,
            Level::Error => logging::Level::Error,
            Level::Critical => logging::Level::Critical,
        };
        // It never traps, and logging is no reason to fail.
        let _ = Logging::log(&mut *self.state, level, context.to_owned(), message.to_owned());
    }
}

fn presence_error(error: presence::Error) -> PresenceError {
    match error {
        presence::Error::Denied(reason) => PresenceError::Denied(reason),
        presence::Error::Other(reason) => PresenceError::Other(reason),
    }
}

/// The error of a read that could not wait.
fn no_presence(error: store::Error) -> PresenceError {
    match error {
        store::Error::Other(reason) => PresenceError::Other(reason),
        other => PresenceError::Other(other.to_string()),
    }
}
