//! `plugnode:app/schedule`: timers, which give the handler an event later, once or periodically.

use wasmtime::component::HasSelf;

use super::definition::{Capability, Package};
use crate::bindings::plugnode::app::schedule::{self, Error, Owner};
use crate::contract;
use crate::state::{InstanceState, WriteRefused};
use plugnode_message::{KeyChange, LATEST, MOST_NAME, Partition, RESERVED_KINDS, Timer, due_in};

pub(super) const CAPABILITY: Capability = Capability {
    serves: &[Package {
        name: contract::PACKAGE,
        version: contract::VERSION,
        interfaces: &["schedule"],
    }],
    grant: None,
    link: |linker| schedule::add_to_linker::<InstanceState, HasSelf<InstanceState>>(linker, |state| state),
};

/// Shortest period of a timer.
const MIN_PERIOD_MS: u64 = 50;

/// Outer error: the call traps. Inner error: the handler gets it.
type HostResult = wasmtime::Result<Result<(), Error>>;

impl schedule::Host for InstanceState {
    fn at(&mut self, owner: Owner, key: String, time_ms: u64, kind: String, data: Vec<u8>) -> HostResult {
        Ok(self.set_timer(owner, key, kind, data, None, time_ms.min(LATEST)))
    }

    fn every(&mut self, owner: Owner, key: String, period_ms: u64, kind: String, data: Vec<u8>) -> HostResult {
        if period_ms < MIN_PERIOD_MS {
            return Ok(Err(Error::Invalid(format!(
                "a period of {period_ms} ms is too short: use at least {MIN_PERIOD_MS} ms"
            ))));
        }
        let period_ms = period_ms.min(LATEST);
        Ok(self.set_timer(owner, key, kind, data, Some(period_ms), due_in(period_ms)))
    }

    fn cancel(&mut self, owner: Owner, key: String) -> HostResult {
        Ok(self.timer(owner, key).and_then(|(timer, partition)| {
            let write = timer.cancel(&self.app.settings.namespace, partition);
            self.write_timer(write)
        }))
    }
}

impl InstanceState {
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
                "invalid kind {kind:?}: use 1 to {MOST_NAME} bytes that do not begin with `plugnode.`"
            )));
        }
        let max = self.app.settings.limits.payload;
        if data.len() > max {
            return Err(Error::Invalid(format!(
                "data of {} bytes is over the app's limit of {max}: use less, or raise limits.payload",
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
        self.write_timer(write)
    }

    /// An empty timer with this key, and its partition.
    fn timer(&self, owner: Owner, key: String) -> Result<(Timer, Partition), Error> {
        if key.is_empty() || key.len() > MOST_NAME {
            return Err(Error::Invalid(format!("invalid key: use 1 to {MOST_NAME} bytes")));
        }
        let Some(event) = self.call.event else {
            return Err(Error::Denied(WriteRefused::NoEvent.to_string()));
        };
        let (client, partition) = match (owner, &self.call.client) {
            // Events without a client are in partition 0.
            (Owner::App, _) => (None, Partition(0)),
            (Owner::Client, None) => {
                let reason = "this event has no client to own the timer: make the app its owner";
                return Err(Error::Denied(reason.to_owned()));
            }
            (Owner::Client, Some(_)) if self.call.is_disconnect => {
                let reason = "the client has disconnected, which ends its timers: make the app the timer's owner";
                return Err(Error::Denied(reason.to_owned()));
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

    fn write_timer(&mut self, write: KeyChange) -> Result<(), Error> {
        self.call.add_write(write).map_err(|refused| match refused {
            WriteRefused::QuotaExceeded => Error::QuotaExceeded,
            refused => Error::Other(refused.to_string()),
        })
    }
}
