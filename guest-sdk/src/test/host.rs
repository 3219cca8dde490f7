//! The host of a kit's handlers: notes what they ask for in the call that is going on, by the rules of the real one.

use std::collections::BTreeMap;
use std::fmt;
use std::panic::resume_unwind;
use std::time::Duration;

use super::effects::{Change, Command, Effects, Write};
use crate::bindings::plugnode::app::types::Context;
use crate::error::Result;
use crate::native::{Error, Host, KeyPage, KvError, Level, Owner, StoreError, within};

/// The buckets by name, each its keys and values.
pub(crate) type Buckets = BTreeMap<String, BTreeMap<String, Vec<u8>>>;

/// Keys in a page. Few, so that tests meet more than one page.
const PAGE: usize = 10;
/// The most bytes of a refusal's message,
const MESSAGE: usize = 1 << 10;
/// and of its data.
const DATA: usize = 16 << 10;

/// Why a write outside of an event is refused.
const NO_EVENT: &str = "there is no event that this write could belong to: write while one is handled";

/// A line that a handler wrote to the log.
#[derive(Clone, PartialEq)]
pub struct Line {
    /// How much it matters.
    pub level: Level,
    /// What it says.
    pub message: String,
}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.level, self.message)
    }
}

/// What one call can see, and what it did so far.
#[derive(Default)]
pub(crate) struct Call {
    pub(crate) buckets: Buckets,
    pub(crate) config: BTreeMap<String, String>,
    pub(crate) log: Vec<Line>,
    pub(crate) effects: Effects,
    /// Whether there is no event: then nothing can be asked for or written.
    pub(crate) is_outside: bool,
    /// Whether the event has no client.
    pub(crate) is_nobodys: bool,
    /// Whether there is a door, and the event's client is at it.
    pub(crate) admission: bool,
    pub(crate) is_connection: bool,
}

/// Runs a part of a handler as if within an event, and gives what it did.
pub fn recorded(part: impl FnOnce() -> Result) -> Result<Effects> {
    let (answer, call) = within(Call::default(), || {
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

impl Host for Call {
    fn command(&mut self, command: Command) -> std::result::Result<(), Error> {
        self.check(&command)?;
        if self.is_outside {
            let words = "there is no event that this could belong to: ask for it while one is handled";
            return Err(Error::Denied(words.into()));
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
        let cursor = (keys.len() > from + PAGE).then_some((from + PAGE) as u64);
        Ok(KeyPage {
            keys: keys.into_iter().skip(from).take(PAGE).collect(),
            cursor,
        })
    }

    fn write(&mut self, bucket: &str, pairs: Vec<(String, Option<Vec<u8>>)>) -> std::result::Result<(), StoreError> {
        if self.is_outside {
            return Err(StoreError::Other(NO_EVENT.into()));
        }
        for (key, value) in pairs {
            self.note(bucket, &key, value, Change::Set);
        }
        Ok(())
    }

    fn add(&mut self, bucket: &str, key: &str, delta: i64) -> std::result::Result<(), KvError> {
        if self.is_outside {
            return Err(KvError::Denied(NO_EVENT.into()));
        }
        let number = match self.read(bucket, key) {
            None => Some(0),
            Some(value) => String::from_utf8(value).ok().and_then(|text| text.parse::<i64>().ok()),
        };
        let reason = |what| KvError::Invalid(format!("cannot add to key {key:?}: {what}"));
        let number = number.ok_or_else(|| reason("its value is no integer"))?;
        let sum = number
            .checked_add(delta)
            .ok_or_else(|| reason("the sum is too large"))?;
        self.note(bucket, key, Some(sum.to_string().into()), Change::Added);
        Ok(())
    }

    fn set_with_ttl(&mut self, bucket: &str, key: &str, value: &[u8], ttl_ms: u64) -> std::result::Result<(), KvError> {
        if self.is_outside {
            return Err(KvError::Denied(NO_EVENT.into()));
        }
        let time = Duration::from_millis(ttl_ms);
        self.note(bucket, key, Some(value.into()), Change::SetFor(time));
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

impl Call {
    fn note(&mut self, bucket: &str, key: &str, value: Option<Vec<u8>>, change: Change) {
        self.effects.writes.push(Write {
            bucket: bucket.into(),
            key: key.into(),
            value,
            change,
        });
    }

    fn check(&self, command: &Command) -> std::result::Result<(), Error> {
        match command {
            Command::Publish { event, .. } | Command::Request { event, .. } => allowed(event),
            Command::Collect { event, .. } => {
                allowed(event)?;
                self.may_ask()
            }
            Command::FindClients { .. } | Command::ListChannels { .. } | Command::Settle { .. } => self.may_ask(),
            Command::Refuse { message, data } => self.may_refuse(message, data.as_deref()),
            Command::At { owner, .. } | Command::Every { owner, .. } | Command::Cancel { owner, .. } => match owner {
                Owner::Client if self.is_nobodys => {
                    let words = "this event has no client that the timer could belong to: let it belong to the app";
                    Err(Error::Denied(words.into()))
                }
                _ => Ok(()),
            },
            _ => Ok(()),
        }
    }

    fn may_ask(&self) -> std::result::Result<(), Error> {
        if self.is_nobodys && !self.is_outside {
            let words = "this event has no client that the answer could come to";
            return Err(Error::Denied(words.into()));
        }
        Ok(())
    }

    fn may_refuse(&self, message: &str, data: Option<&str>) -> std::result::Result<(), Error> {
        if self.is_outside {
            return Ok(());
        }
        if !self.admission {
            let words = "this app takes every client in: have the kit made `with_admission`";
            return Err(Error::Denied(words.into()));
        }
        if !self.is_connection {
            let words = "a client can be refused only while its connection is handled: disconnect it instead";
            return Err(Error::Denied(words.into()));
        }
        if message.len() > MESSAGE || data.is_some_and(|data| data.len() > DATA) {
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

/// Socket.IO keeps these names for itself.
fn allowed(event: &str) -> std::result::Result<(), Error> {
    match event {
        "connect" | "connect_error" | "disconnect" | "disconnecting" | "newListener" | "removeListener" => Err(
            Error::Invalid(format!("`{event}` is a name that Socket.IO keeps for itself")),
        ),
        _ => Ok(()),
    }
}
