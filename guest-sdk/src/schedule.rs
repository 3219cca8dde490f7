//! Timers: events that the host delivers at a later time.
//!
//! Setting, replacing and cancelling a timer are effects of the current event. When a timer is due,
//! [`Handler::on_timer`](crate::Handler::on_timer) is called with the timer's kind and data: exactly once, in order with the other
//! events of its owner, through restarts and new releases. A key identifies a timer of its owner; setting it again replaces
//! the timer.
//!
//! ```
//! use std::time::Duration;
//!
//! use plugnode_sdk::prelude::*;
//! use plugnode_sdk::schedule;
//!
//! #[derive(Default)]
//! struct Quiz;
//!
//! impl Handler for Quiz {
//!     fn on_message(&mut self, client: &Client, message: &Incoming) -> Result {
//!         if message.event == "ask" {
//!             schedule::of_client().after("answer", Duration::from_secs(30), "quiz.late/1", &message.arg::<u32>(0)?)?;
//!         } else {
//!             schedule::of_client().cancel("answer")?;
//!         }
//!         Ok(())
//!     }
//!
//!     fn on_timer(&mut self, due: &schedule::Due) -> Result {
//!         if let ("quiz.late/1", Some(client)) = (due.kind.as_str(), &due.client) {
//!             client.emit("too late", due.data::<u32>()?)?;
//!         }
//!         Ok(())
//!     }
//! }
//! ```

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::bindings::plugnode::app::schedule::Owner;
use crate::client::Client;
use crate::context::Context;
use crate::host::schedule as host;
use crate::incoming::Custom;

/// The entries of the context's `extra` in a timer's event.
const KEY: &str = "timer-key";
const DUE_MS: &str = "timer-due-ms";
const MISSED: &str = "timer-missed";

/// The timers of one owner.
#[derive(Debug, Clone, Copy)]
pub struct Timers(Owner);

/// Why a timer could not be set or cancelled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    /// No event is being handled, or the event has no client to own the timer.
    Denied(String),
    /// This event has used up its limit of writes or bytes.
    QuotaExceeded,
    /// The key, kind, data or period is invalid.
    Invalid(String),
    /// Any other reason.
    Other(String),
}

/// A timer that is due.
#[derive(Debug)]
pub struct Due {
    /// Its key.
    pub key: String,
    /// Its kind.
    pub kind: String,
    /// The client that owns the timer; none if the app owns it.
    pub client: Option<Client>,
    /// When it was due.
    pub at: SystemTime,
    /// For a periodic timer: the number of earlier periods without an event, because no event could be handled then.
    pub missed: u32,
    bytes: Vec<u8>,
}

impl Due {
    /// Parses its data.
    ///
    /// # Errors
    /// If the data does not have this type.
    pub fn data<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_slice(&self.bytes)
    }

    /// The timer of a custom event; none if the event does not come from a timer.
    pub(crate) fn read(custom: &Custom, context: &Context) -> Option<Self> {
        let fact = |name: &str| {
            let mut facts = context.extra.iter();
            facts.find(|(fact, _)| fact == name).map(|(_, value)| value.clone())
        };
        let at: u64 = fact(DUE_MS)?.parse().ok()?;
        Some(Self {
            key: fact(KEY)?,
            kind: custom.kind.clone(),
            client: custom.client.clone().map(Client::from),
            at: UNIX_EPOCH + Duration::from_millis(at),
            missed: fact(MISSED)?.parse().ok()?,
            bytes: custom.data.clone(),
        })
    }

    /// The entries of the context's `extra` that [`read`](Self::read) needs, for the test kit.
    #[cfg(not(target_family = "wasm"))]
    pub(crate) fn write(key: &str, due_ms: u64, missed: u64) -> Vec<(String, String)> {
        let missed = u32::try_from(missed).unwrap_or(u32::MAX);
        let facts = [
            (KEY, key.to_owned()),
            (DUE_MS, due_ms.to_string()),
            (MISSED, missed.to_string()),
        ];
        facts.map(|(name, value)| (name.to_owned(), value)).into()
    }
}

/// Timers of the client whose event is being handled. Their events have this client, and its disconnect cancels them.
pub fn of_client() -> Timers {
    Timers(Owner::Client)
}

/// Timers of the app, in the namespace of the current event. Their events have no client.
pub fn of_app() -> Timers {
    Timers(Owner::App)
}

impl Timers {
    /// Sets a one-shot timer. A time in the past is due at once. The data is stored as JSON.
    ///
    /// # Errors
    /// If the timer cannot be set. The number of timers is checked at commit: if there are too many, the event fails.
    pub fn at(self, key: &str, time: SystemTime, kind: &str, data: &(impl Serialize + ?Sized)) -> Result<(), Error> {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        host::at(self.0, key, millis(since), kind, &json(data)?).map_err(Error::from)
    }

    /// Sets a one-shot timer that is due after this time.
    ///
    /// # Errors
    /// The same as for [`at`](Self::at).
    pub fn after(self, key: &str, time: Duration, kind: &str, data: &(impl Serialize + ?Sized)) -> Result<(), Error> {
        self.at(key, SystemTime::now() + time, kind, data)
    }

    /// Sets a periodic timer, first due after one period. The period is at least 50 ms.
    ///
    /// # Errors
    /// The same as for [`at`](Self::at).
    pub fn every(self, key: &str, period: Duration, kind: &str, data: &(impl Serialize + ?Sized)) -> Result<(), Error> {
        host::every(self.0, key, millis(period), kind, &json(data)?).map_err(Error::from)
    }

    /// Cancels a timer. Does nothing if there is none.
    ///
    /// # Errors
    /// If the owner is the client and the event has none.
    pub fn cancel(self, key: &str) -> Result<(), Error> {
        host::cancel(self.0, key).map_err(Error::from)
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn json(data: &(impl Serialize + ?Sized)) -> Result<Vec<u8>, Error> {
    serde_json::to_vec(data).map_err(|error| Error::Invalid(format!("the data cannot be written as JSON: {error}")))
}

impl From<host::Error> for Error {
    fn from(error: host::Error) -> Self {
        match error {
            host::Error::Denied(reason) => Self::Denied(reason),
            host::Error::QuotaExceeded => Self::QuotaExceeded,
            host::Error::Invalid(reason) => Self::Invalid(reason),
            host::Error::Other(reason) => Self::Other(reason),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Denied(reason) | Self::Invalid(reason) | Self::Other(reason) => f.write_str(reason),
            Self::QuotaExceeded => {
                f.write_str("this event has used up its limit of writes or bytes; raise it in the app's `limits`")
            }
        }
    }
}

impl std::error::Error for Error {}
