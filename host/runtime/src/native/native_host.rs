//! Host calls of native handlers: the same functions that components import, so that the same rules apply.

use plugnode_sdk::native::{Command, Error, Host, KeyPage, KvError, Level, StoreError};

use super::blocking_reads::BlockingReads;
use super::convert::{audience, error, kv_error, owner, payload, scheduled, store_error};
use crate::bindings::plugnode::app::outbox::{Delivery, Host as Outbox};
use crate::bindings::plugnode::app::schedule::Host as Schedule;
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
        let state = &mut *self.state;
        let answer = match command {
            Command::Publish {
                to,
                event,
                args,
                volatile,
                local,
            } => {
                let mut how = Delivery::empty();
                if volatile {
                    how |= Delivery::VOLATILE;
                }
                if local {
                    how |= Delivery::LOCAL;
                }
                state.publish(audience(to), event, payload(args), how)
            }
            Command::Subscribe { who, channels } => Outbox::subscribe(state, audience(who), channels),
            Command::Unsubscribe { who, channels } => Outbox::unsubscribe(state, audience(who), channels),
            Command::Ack { id, args } => Outbox::ack(state, id, payload(args)),
            Command::Request {
                to,
                event,
                args,
                timeout_ms,
                token,
            } => Outbox::request(state, audience(to), event, payload(args), timeout_ms, token),
            Command::Disconnect { who, close_transport } => Outbox::disconnect(state, audience(who), close_transport),
            Command::PatchAttributes { id, patch } => Outbox::patch_attributes(state, id, patch),
            Command::Custom { io_node, kind, data } => Outbox::custom(state, io_node, kind, data),
            Command::Refuse { message, data } => Outbox::refuse(state, message, data),
            Command::Collect {
                to,
                event,
                args,
                timeout_ms,
                token,
            } => Outbox::collect(state, audience(to), event, payload(args), timeout_ms, token),
            Command::FindClients {
                who,
                most,
                timeout_ms,
                token,
            } => Outbox::find_clients(state, audience(who), most, timeout_ms, token),
            Command::ListChannels {
                namespace,
                most,
                timeout_ms,
                token,
            } => Outbox::list_channels(state, namespace, most, timeout_ms, token),
            Command::Settle { timeout_ms, token } => Outbox::settle(state, timeout_ms, token),
            Command::At {
                owner: of,
                key,
                time_ms,
                kind,
                data,
            } => return scheduled(Schedule::at(state, owner(of), key, time_ms, kind, data)),
            Command::Every {
                owner: of,
                key,
                period_ms,
                kind,
                data,
            } => return scheduled(Schedule::every(state, owner(of), key, period_ms, kind, data)),
            Command::Cancel { owner: of, key } => return scheduled(Schedule::cancel(state, owner(of), key)),
        };
        match answer {
            Ok(taken) => taken.map_err(error),
            // None of these functions traps so far.
            Err(trap) => Err(Error::Other(trap.to_string())),
        }
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

    fn config(&mut self) -> Vec<(String, String)> {
        self.state.app.settings.config.clone().into_iter().collect()
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
