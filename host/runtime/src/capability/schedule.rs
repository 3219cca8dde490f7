//! `plugnode:app/schedule`: events that a handler asks to be given later.

use wasmtime::component::HasSelf;

use super::{Capability, Package};
use crate::bindings::plugnode::app::schedule::{self, Error, Owner};
use crate::inspect::CONTRACT;
use crate::state::{Refused, State};
use plugnode_message::{KeyChange, LATEST, MOST_NAME, Partition, RESERVED_KINDS, Timer, due_in};

pub(super) const CAPABILITY: Capability = Capability {
    serves: &[Package {
        name: CONTRACT.0,
        version: CONTRACT.1,
        interfaces: &["schedule"],
    }],
    grant: None,
    link: |linker| schedule::add_to_linker::<State, HasSelf<State>>(linker, |state| state),
};

/// The shortest time between two events of a timer.
const SHORTEST_MS: u64 = 50;

type Answer = wasmtime::Result<Result<(), Error>>;

impl schedule::Host for State {
    fn at(&mut self, owner: Owner, key: String, time_ms: u64, kind: String, data: Vec<u8>) -> Answer {
        Ok(self.set_timer(owner, key, kind, data, None, time_ms.min(LATEST)))
    }

    fn every(&mut self, owner: Owner, key: String, period_ms: u64, kind: String, data: Vec<u8>) -> Answer {
        if period_ms < SHORTEST_MS {
            return Ok(Err(Error::Invalid(format!(
                "a period of {period_ms} ms is too short: the shortest is {SHORTEST_MS} ms"
            ))));
        }
        let period_ms = period_ms.min(LATEST);
        Ok(self.set_timer(owner, key, kind, data, Some(period_ms), due_in(period_ms)))
    }

    fn cancel(&mut self, owner: Owner, key: String) -> Answer {
        Ok(self.timer(owner, key).and_then(|(timer, partition)| {
            let write = timer.cancel(&self.app.settings.namespace, partition);
            self.note_timer(write)
        }))
    }
}

impl State {
    fn set_timer(
        &mut self,
        owner: Owner,
        key: String,
        kind: String,
        data: Vec<u8>,
        period_ms: Option<u64>,
        due_ms: u64,
    ) -> Result<(), Error> {
        if kind.is_empty() || kind.len() > MOST_NAME || kind.starts_with(RESERVED_KINDS) {
            return Err(Error::Invalid(format!(
                "{kind:?} cannot be the kind of an event: give 1 to {MOST_NAME} bytes that do not begin with `plugnode.`"
            )));
        }
        let most = self.app.settings.limits.payload;
        if data.len() > most {
            return Err(Error::Invalid(format!(
                "data of {} bytes is over the app's limit of {most}: give less, or raise limits.payload",
                data.len()
            )));
        }
        let (timer, partition) = self.timer(owner, key)?;
        let timer = Timer {
            kind: kind.into(),
            data: data.into(),
            period_ms,
            ..timer
        };
        let write = timer.set(&self.app.settings.namespace, partition, due_ms);
        self.note_timer(write)
    }

    /// The timer of this name, with nothing in it, and where it is.
    fn timer(&self, owner: Owner, key: String) -> Result<(Timer, Partition), Error> {
        if key.is_empty() || key.len() > MOST_NAME {
            return Err(Error::Invalid(format!("a key has 1 to {MOST_NAME} bytes")));
        }
        let Some(event) = self.call.event else {
            return Err(Error::Denied(Refused::NoEvent.to_string()));
        };
        let (client, partition) = match (owner, &self.call.client) {
            // Where events from nobody are.
            (Owner::App, _) => (None, Partition(0)),
            (Owner::Client, None) => {
                let words = "this event has no client that the timer could belong to: let it belong to the app";
                return Err(Error::Denied(words.to_owned()));
            }
            (Owner::Client, Some(_)) if self.call.is_last => {
                let words = "the client is gone, and its timers with it: let the timer belong to the app";
                return Err(Error::Denied(words.to_owned()));
            }
            (Owner::Client, Some(client)) => (Some(client.id.clone()), event.partition),
        };
        let timer = Timer {
            namespace: self.call.namespace.clone(),
            client,
            key: key.into(),
            kind: "".into(),
            data: Default::default(),
            period_ms: None,
        };
        Ok((timer, partition))
    }

    fn note_timer(&mut self, write: KeyChange) -> Result<(), Error> {
        self.call.write(write).map_err(|refused| match refused {
            Refused::QuotaExceeded => Error::QuotaExceeded,
            refused => Error::Other(refused.to_string()),
        })
    }
}
