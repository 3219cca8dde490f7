//! The host of a kit's handlers: records the effects of one call, by the rules of the real host.

use std::collections::BTreeMap;
use std::fmt;
use std::panic::resume_unwind;
use std::time::Duration;

use super::effects::{Change, Command, Effects, Write};
use crate::bindings::plugnode::app::types::Context;
use crate::error::Result;
use crate::native::{Error, Host, KeyPage, KvError, Level, Owner, StoreError, within};

/// The keys and values of each bucket, by bucket name.
pub(crate) type Buckets = BTreeMap<String, BTreeMap<String, Vec<u8>>>;

/// Keys per page. Small, so that tests get more than one page.
const PAGE_SIZE: usize = 10;
/// Size limit of a refusal's message, in bytes.
const MAX_REFUSAL_MESSAGE: usize = 1 << 10;
/// Size limit of a refusal's data, in bytes.
const MAX_REFUSAL_DATA: usize = 16 << 10;

/// Why a write outside of an event is refused.
const NO_EVENT_FOR_WRITE: &str = "cannot write: no event is being handled";

/// A log line of a handler.
#[derive(Clone, PartialEq)]
pub struct Line {
    /// Its level.
    pub level: Level,
    /// Its message.
    pub message: String,
}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.level, self.message)
    }
}

/// The data that one call can read, and its effects so far.
#[derive(Default)]
pub(crate) struct CallHost {
    pub(crate) buckets: Buckets,
    pub(crate) config: BTreeMap<String, String>,
    pub(crate) log: Vec<Line>,
    pub(crate) effects: Effects,
    /// Whether the call runs outside of an event, where commands and writes are denied.
    pub(crate) is_outside_event: bool,
    /// Whether the event has no client.
    pub(crate) has_no_client: bool,
    /// Whether the app has `admission = true`.
    pub(crate) admission: bool,
    /// Whether the event is a connection.
    pub(crate) is_connection: bool,
}

/// Runs handler code as if inside an event, and returns its effects.
pub fn recorded(part: impl FnOnce() -> Result) -> Result<Effects> {
    let (answer, call) = within(CallHost::default(), || {
        let _scope = crate::context::enter(context(0, 0, 0));
        part()
    });
    let answer = answer.unwrap_or_else(|panic| resume_unwind(panic));
    answer.map(|()| call.effects)
}

pub(crate) fn context(sequence: u64, received_at_ms: u64, instance: usize) -> Context {
    Context {
        id: format!("0-{sequence}"),
        attempt: 1,
        received_at_ms,
        budget_ms: 1000,
        node: "test".into(),
        instance: instance as u32,
        release: "0123456789ab".into(),
        traceparent: None,
        extra: Vec::new(),
    }
}

impl Host for CallHost {
    fn command(&mut self, command: Command) -> std::result::Result<(), Error> {
        self.check(&command)?;
        if self.is_outside_event {
            return Err(Error::Denied("no event is being handled".into()));
        }
        self.effects.commands.push(command);
        Ok(())
    }

    fn open(&mut self, _: &str) -> std::result::Result<(), StoreError> {
        Ok(())
    }

    fn get(&mut self, bucket: &str, keys: &[String]) -> std::result::Result<Vec<Option<Vec<u8>>>, StoreError> {
        Ok(keys.iter().map(|key| self.read(bucket, key)).collect())
    }

    fn keys(&mut self, bucket: &str, prefix: &str, cursor: Option<u64>) -> std::result::Result<KeyPage, StoreError> {
        let from = cursor.unwrap_or(0) as usize;
        let committed = self.buckets.get(bucket).into_iter().flat_map(|bucket| bucket.keys());
        let written = self.writes(bucket).map(|write| &write.key);
        let mut keys = committed.chain(written).cloned().collect::<Vec<_>>();
        keys.sort_unstable();
        keys.dedup();
        keys.retain(|key| key.starts_with(prefix) && self.read(bucket, key).is_some());
        let cursor = (keys.len() > from + PAGE_SIZE).then_some((from + PAGE_SIZE) as u64);
        Ok(KeyPage {
            keys: keys.into_iter().skip(from).take(PAGE_SIZE).collect(),
            cursor,
        })
    }

    fn write(&mut self, bucket: &str, pairs: Vec<(String, Option<Vec<u8>>)>) -> std::result::Result<(), StoreError> {
        if self.is_outside_event {
            return Err(StoreError::Other(NO_EVENT_FOR_WRITE.into()));
        }
        for (key, value) in pairs {
            self.record(bucket, &key, value, Change::Set);
        }
        Ok(())
    }

    fn add(&mut self, bucket: &str, key: &str, delta: i64) -> std::result::Result<(), KvError> {
        if self.is_outside_event {
            return Err(KvError::Denied(NO_EVENT_FOR_WRITE.into()));
        }
        let number = match self.read(bucket, key) {
            None => Some(0),
            Some(value) => String::from_utf8(value).ok().and_then(|text| text.parse::<i64>().ok()),
        };
        let reason = |what| KvError::Invalid(format!("cannot add to key {key:?}: {what}"));
        let number = number.ok_or_else(|| reason("its value is not an integer"))?;
        let sum = number
            .checked_add(delta)
            .ok_or_else(|| reason("the sum is too large"))?;
        self.record(bucket, key, Some(sum.to_string().into()), Change::Added);
        Ok(())
    }

    fn set_with_ttl(&mut self, bucket: &str, key: &str, value: &[u8], ttl_ms: u64) -> std::result::Result<(), KvError> {
        if self.is_outside_event {
            return Err(KvError::Denied(NO_EVENT_FOR_WRITE.into()));
        }
        let time = Duration::from_millis(ttl_ms);
        self.record(bucket, key, Some(value.into()), Change::SetFor(time));
        Ok(())
    }

    fn config(&mut self) -> Vec<(String, String)> {
        self.config.clone().into_iter().collect()
    }

    fn log(&mut self, level: Level, _: &str, message: &str) {
        self.log.push(Line {
            level,
            message: message.into(),
        });
    }
}

impl CallHost {
    fn record(&mut self, bucket: &str, key: &str, value: Option<Vec<u8>>, change: Change) {
        self.effects.writes.push(Write {
            bucket: bucket.into(),
            key: key.into(),
            value,
            change,
        });
    }

    fn check(&self, command: &Command) -> std::result::Result<(), Error> {
        match command {
            Command::Publish { event, .. } | Command::Request { event, .. } => check_event_name(event),
            Command::Collect { event, .. } => {
                check_event_name(event)?;
                self.check_query()
            }
            Command::FindClients { .. } | Command::ListChannels { .. } | Command::Settle { .. } => self.check_query(),
            Command::Refuse { message, data } => self.check_refusal(message, data.as_deref()),
            Command::At { owner, .. } | Command::Every { owner, .. } | Command::Cancel { owner, .. } => match owner {
                Owner::Client if self.has_no_client => {
                    let reason = "this event has no client to own the timer: use a timer of the app";
                    Err(Error::Denied(reason.into()))
                }
                _ => Ok(()),
            },
            _ => Ok(()),
        }
    }

    fn check_query(&self) -> std::result::Result<(), Error> {
        if self.has_no_client && !self.is_outside_event {
            let reason = "this event has no client to receive the reply";
            return Err(Error::Denied(reason.into()));
        }
        Ok(())
    }

    fn check_refusal(&self, message: &str, data: Option<&str>) -> std::result::Result<(), Error> {
        if self.is_outside_event {
            return Ok(());
        }
        if !self.admission {
            let reason = "this app has no admission control: call `with_admission` on the kit";
            return Err(Error::Denied(reason.into()));
        }
        if !self.is_connection {
            let reason = "a client can be refused only while its connection is handled: disconnect it instead";
            return Err(Error::Denied(reason.into()));
        }
        if message.len() > MAX_REFUSAL_MESSAGE || data.is_some_and(|data| data.len() > MAX_REFUSAL_DATA) {
            return Err(Error::PayloadTooLarge);
        }
        Ok(())
    }

    fn read(&self, bucket: &str, key: &str) -> Option<Vec<u8>> {
        match self.writes(bucket).filter(|write| write.key == key).last() {
            Some(write) => write.value.clone(),
            None => self.buckets.get(bucket)?.get(key).cloned(),
        }
    }

    fn writes<'a>(&'a self, bucket: &'a str) -> impl Iterator<Item = &'a Write> {
        self.effects.writes.iter().filter(move |write| write.bucket == bucket)
    }
}

/// Refuses the event names that Socket.IO reserves.
fn check_event_name(event: &str) -> std::result::Result<(), Error> {
    match event {
        "connect" | "connect_error" | "disconnect" | "disconnecting" | "newListener" | "removeListener" => {
            Err(Error::Invalid(format!("event name `{event}` is reserved by Socket.IO")))
        }
        _ => Ok(()),
    }
}
