//! `plugnode:app/schedule`: timers, which give the handler an event later, once or periodically.

use plugnode_sdk::native::{Command, Error, Owner};
use wasmtime::component::HasSelf;

use super::definition::{Capability, Package};
use crate::bindings::plugnode::app::schedule as wit;
use crate::contract;
use crate::state::{InstanceState, WriteRefused};
use plugnode_message::{KeyChange, Partition, Timer};

pub(super) const CAPABILITY: Capability = Capability {
    serves: &[Package {
        name: contract::PACKAGE,
        version: contract::VERSION,
        interfaces: &["schedule"],
    }],
    grant: None,
    link: |linker| wit::add_to_linker::<InstanceState, HasSelf<InstanceState>>(linker, |state| state),
};

/// Outer error: the call traps. Inner error: the handler gets it.
type HostResult = wasmtime::Result<Result<(), wit::Error>>;

impl wit::Host for InstanceState {
    fn at(&mut self, owner: wit::Owner, key: String, time_ms: u64, kind: String, data: Vec<u8>) -> HostResult {
        self.record_timer(Command::At {
            owner: owner.into(),
            key,
            time_ms,
            kind,
            data,
        })
    }

    fn every(&mut self, owner: wit::Owner, key: String, period_ms: u64, kind: String, data: Vec<u8>) -> HostResult {
        self.record_timer(Command::Every {
            owner: owner.into(),
            key,
            period_ms,
            kind,
            data,
        })
    }

    fn cancel(&mut self, owner: wit::Owner, key: String) -> HostResult {
        let owner = owner.into();
        self.record_timer(Command::Cancel { owner, key })
    }
}

impl From<wit::Owner> for Owner {
    fn from(owner: wit::Owner) -> Self {
        match owner {
            wit::Owner::Client => Self::Client,
            wit::Owner::App => Self::App,
        }
    }
}

impl From<Error> for wit::Error {
    fn from(error: Error) -> Self {
        match error {
            Error::Denied(reason) => Self::Denied(reason),
            Error::QuotaExceeded => Self::QuotaExceeded,
            Error::PayloadTooLarge => Self::Invalid("the data is over the app's limits.payload".to_owned()),
            Error::Invalid(reason) => Self::Invalid(reason),
            Error::Other(reason) => Self::Other(reason),
        }
    }
}

impl InstanceState {
    /// Records a timer of a component.
    fn record_timer(&mut self, command: Command) -> HostResult {
        Ok(self.record(command).map_err(wit::Error::from))
    }

    /// Adds the write that sets a timer, whose arguments have been checked.
    pub(super) fn set_timer(
        &mut self,
        owner: Owner,
        key: String,
        kind: String,
        data: Vec<u8>,
        period_ms: Option<u64>,
        due_ms: u64,
    ) -> Result<(), Error> {
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

    /// Adds the write that cancels a timer.
    pub(super) fn cancel_timer(&mut self, owner: Owner, key: String) -> Result<(), Error> {
        let (timer, partition) = self.timer(owner, key)?;
        let write = timer.cancel(&self.app.settings.namespace, partition);
        self.write_timer(write)
    }

    /// An empty timer with this key, and its partition.
    fn timer(&self, owner: Owner, key: String) -> Result<(Timer, Partition), Error> {
        let Some(event) = self.call.event else {
            return Err(Error::Denied(WriteRefused::NoEvent.to_string()));
        };
        let (client, partition) = match (owner, &self.call.client) {
            (Owner::Client, Some(client)) => (Some(client.id.clone()), event.partition),
            // Events without a client are in partition 0.
            _ => (None, Partition(0)),
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
