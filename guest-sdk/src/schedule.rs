//! Timers: events that a handler asks to be given later.
//!
//! A timer is set, replaced and cancelled with the effects of the event that asks for it. When it is due, the handler gets an event
//! ([`Handler::on_timer`](crate::Handler::on_timer)) of the kind and with the data that were given: once, in order with the other
//! events of its owner, whatever is restarted or replaced meanwhile. The key names a timer of its owner; to set it again replaces it.
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

/// The timers of one owner.
#[derive(Debug, Clone, Copy)]
pub struct Timers(Owner);

/// A timer was not set or cancelled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    /// There is no event, or no client, that it could belong to.
    Denied(String),
    /// This event has used up the writes or bytes that the app's limits allow.
    QuotaExceeded,
    /// The key, the kind, the data or the period cannot be used.
    Invalid(String),
    /// Anything else.
    Other(String),
}

/// A timer that is due.
#[derive(Debug)]
pub struct Due {
    /// The key that it was set by.
    pub key: String,
    /// The kind that it was given.
    pub kind: String,
    /// The client whose timer it is; none when it is the app's.
    pub client: Option<Client>,
    /// When it was due.
    pub at: SystemTime,
    /// How many times before this one were left out, since nothing could be handled then.
    pub missed: u32,
    bytes: Vec<u8>,
}

impl Due {
    /// The data that it was given.
    ///
    /// # Errors
    /// When it is something else.
    pub fn data<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_slice(&self.bytes)
    }

    /// The timer whose event this is, if it is one's.
    pub(crate) fn read(custom: &Custom, context: &Context) -> Option<Self> {
        let fact = |name: &str| {
            let mut facts = context.extra.iter();
            facts.find(|(fact, _)| fact == name).map(|(_, value)| value.clone())
        };
        let at: u64 = fact("timer-due-ms")?.parse().ok()?;
        Some(Self {
            key: fact("timer-key")?,
            kind: custom.kind.clone(),
            client: custom.client.clone().map(Client::from),
            at: UNIX_EPOCH + Duration::from_millis(at),
            missed: fact("timer-missed")?.parse().ok()?,
            bytes: custom.data.clone(),
        })
    }
}

/// Timers of the client whose event is being handled: they go with it, and their events have it.
pub fn of_client() -> Timers {
    Timers(Owner::Client)
}

/// Timers of the app, in the namespace of the event: their events have no client.
pub fn of_app() -> Timers {
    Timers(Owner::App)
}

impl Timers {
    /// Sets a timer to a time; one that is over is due at once. The data is kept as JSON.
    ///
    /// # Errors
    /// When it cannot be set. That there are too many is found out at the commit, and then the event fails.
    pub fn at(self, key: &str, time: SystemTime, kind: &str, data: &(impl Serialize + ?Sized)) -> Result<(), Error> {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        host::at(self.0, key, millis(since), kind, &json(data)?).map_err(Error::from)
    }

    /// Sets a timer that is due after so long.
    ///
    /// # Errors
    /// As with [`at`](Self::at).
    pub fn after(self, key: &str, time: Duration, kind: &str, data: &(impl Serialize + ?Sized)) -> Result<(), Error> {
        self.at(key, SystemTime::now() + time, kind, data)
    }

    /// Sets a timer that is due again and again, first after one period, which is 50 ms or more.
    ///
    /// # Errors
    /// As with [`at`](Self::at).
    pub fn every(self, key: &str, period: Duration, kind: &str, data: &(impl Serialize + ?Sized)) -> Result<(), Error> {
        host::every(self.0, key, millis(period), kind, &json(data)?).map_err(Error::from)
    }

    /// Cancels a timer; does nothing when there is none.
    ///
    /// # Errors
    /// When there is no client whose timer it could be.
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
            host::Error::Denied(words) => Self::Denied(words),
            host::Error::QuotaExceeded => Self::QuotaExceeded,
            host::Error::Invalid(words) => Self::Invalid(words),
            host::Error::Other(words) => Self::Other(words),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Denied(words) | Self::Invalid(words) | Self::Other(words) => f.write_str(words),
            Self::QuotaExceeded => {
                f.write_str("this event has used up the writes or bytes that the app's limits allow")
            }
        }
    }
}

impl std::error::Error for Error {}
