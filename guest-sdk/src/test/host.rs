//! The host of a kit's handlers: records the effects of one call, by the rules of the real host.

use std::collections::BTreeMap;
use std::fmt;
use std::panic::resume_unwind;
use std::time::Duration;

use super::effects::{Change, Command, Effects, Write};
use crate::bindings::plugnode::app::types::Context;
use crate::error::Result;
use crate::native::{
    CallKind, CommandLimits, CommandRules, Error, Host, KeyPage, KvError, Level, Member, PresenceError, PresencePage,
    StoreError, within,
};

/// The keys and values of each bucket, by bucket name.
pub(crate) type Buckets = BTreeMap<String, BTreeMap<String, Vec<u8>>>;

/// Keys per page. Small, so that tests get more than one page.
const PAGE_SIZE: usize = 10;

/// Why a write outside of an event is refused.
const NO_EVENT_FOR_WRITE: &str = "cannot write outside of an event: write while an event is handled";

/// Why a write over the limits is refused.
const NO_QUOTA_FOR_WRITE: &str =
    "this event has used up its writes or bytes: write less, or raise limits.commands or limits.bytes";

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
pub(crate) struct CallHost {
    pub(crate) buckets: Buckets,
    pub(crate) config: BTreeMap<String, String>,
    pub(crate) log: Vec<Line>,
    /// The clients in each channel of the event's namespace.
    pub(crate) present: BTreeMap<String, Vec<Member>>,
    pub(crate) effects: Effects,
    rules: CommandRules,
    /// Bytes of the commands and writes so far.
    bytes: usize,
}

/// The event has used up its limit of commands and writes, or of their bytes.
struct QuotaExceeded;

/// Runs handler code as if inside an event, and returns its effects.
pub fn recorded(part: impl FnOnce() -> Result) -> Result<Effects> {
    let rules = CommandRules {
        call: CallKind::OfClient,
        admission: false,
        limits: CommandLimits::default(),
    };
    let (answer, call) = within(CallHost::new(rules), || {
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
        let size = command.check(&self.rules)?;
        self.charge(size).map_err(|QuotaExceeded| Error::QuotaExceeded)?;
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
        if self.rules.call == CallKind::OutsideEvent {
            return Err(StoreError::Other(NO_EVENT_FOR_WRITE.into()));
        }
        for (key, value) in pairs {
            let limits = self.rules.limits;
            limits
                .check_value(value.as_deref().unwrap_or_default())
                .map_err(StoreError::Other)?;
            self.record(bucket, &key, value, Change::Set)
                .map_err(|QuotaExceeded| StoreError::Other(NO_QUOTA_FOR_WRITE.into()))?;
        }
        Ok(())
    }

    fn add(&mut self, bucket: &str, key: &str, delta: i64) -> std::result::Result<(), KvError> {
        if self.rules.call == CallKind::OutsideEvent {
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
        self.record(bucket, key, Some(sum.to_string().into()), Change::Added)
            .map_err(|QuotaExceeded| KvError::QuotaExceeded)
    }

    fn set_with_ttl(&mut self, bucket: &str, key: &str, value: &[u8], ttl_ms: u64) -> std::result::Result<(), KvError> {
        if self.rules.call == CallKind::OutsideEvent {
            return Err(KvError::Denied(NO_EVENT_FOR_WRITE.into()));
        }
        self.rules.limits.check_value(value).map_err(KvError::Invalid)?;
        let time = Duration::from_millis(ttl_ms);
        self.record(bucket, key, Some(value.into()), Change::SetFor(time))
            .map_err(|QuotaExceeded| KvError::QuotaExceeded)
    }

    fn presence_count(&mut self, channel: &str) -> std::result::Result<u64, PresenceError> {
        Ok(self.present.get(channel).map_or(0, |members| members.len() as u64))
    }

    fn presence(&mut self, channel: &str, cursor: Option<u64>) -> std::result::Result<PresencePage, PresenceError> {
        let from = cursor.unwrap_or(0) as usize;
        let members = self.present.get(channel).map_or(&[][..], Vec::as_slice);
        Ok(PresencePage {
            members: members.iter().skip(from).take(PAGE_SIZE).cloned().collect(),
            cursor: (members.len() > from + PAGE_SIZE).then_some((from + PAGE_SIZE) as u64),
        })
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
    pub(crate) fn new(rules: CommandRules) -> Self {
        Self {
            buckets: Buckets::new(),
            config: BTreeMap::new(),
            log: Vec::new(),
            present: BTreeMap::new(),
            effects: Effects::default(),
            rules,
            bytes: 0,
        }
    }

    fn record(
        &mut self,
        bucket: &str,
        key: &str,
        value: Option<Vec<u8>>,
        change: Change,
    ) -> std::result::Result<(), QuotaExceeded> {
        self.charge(bucket.len() + key.len() + value.as_ref().map_or(0, Vec::len))?;
        self.effects.writes.push(Write {
            bucket: bucket.into(),
            key: key.into(),
            value,
            change,
        });
        Ok(())
    }

    /// Counts a command or write of this size.
    fn charge(&mut self, size: usize) -> std::result::Result<(), QuotaExceeded> {
        let limits = self.rules.limits;
        let count = self.effects.commands.len() + self.effects.writes.len();
        if count >= limits.commands || self.bytes + size > limits.bytes {
            return Err(QuotaExceeded);
        }
        self.bytes += size;
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
