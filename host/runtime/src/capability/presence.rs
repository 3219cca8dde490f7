//! `plugnode:app/presence`: who is in a channel, as it is kept in the key-value store.

use wasmtime::component::HasSelf;

use super::definition::{Capability, Package};
use crate::bindings::plugnode::app::presence::{self as wit, Error, Member, Page};
use crate::bindings::wasi::keyvalue::store;
use crate::contract;
use crate::state::InstanceState;
use plugnode_message::{Text, presence_bucket, presence_page};

pub(super) const CAPABILITY: Capability = Capability {
    serves: &[Package {
        name: contract::PACKAGE,
        version: contract::VERSION,
        interfaces: &["presence"],
    }],
    grant: None,
    link: |linker| wit::add_to_linker::<InstanceState, HasSelf<InstanceState>>(linker, |state| state),
};

/// Outer error: the call traps. Inner error: the handler gets it.
type HostResult<T> = wasmtime::Result<Result<T, Error>>;

impl wit::Host for InstanceState {
    async fn count(&mut self, channel: String) -> HostResult<u64> {
        Ok(self.presence_count(&channel).await)
    }

    async fn members(&mut self, channel: String, cursor: Option<u64>) -> HostResult<Page> {
        Ok(self.presence_page(&channel, cursor).await)
    }
}

impl InstanceState {
    /// Number of clients in a channel.
    pub(crate) async fn presence_count(&mut self, channel: &str) -> Result<u64, Error> {
        let bucket = self.presence_of(channel)?;
        let store = self.app.settings.key_value.clone();
        self.wait_for_store(store.count(&bucket)).await.map_err(from_store)
    }

    /// A page of the clients in a channel.
    pub(crate) async fn presence_page(&mut self, channel: &str, cursor: Option<u64>) -> Result<Page, Error> {
        let bucket = self.presence_of(channel)?;
        let store = self.app.settings.key_value.clone();
        let page = presence_page(&*store, &bucket, cursor.unwrap_or(0));
        let (members, cursor) = self.wait_for_store(page).await.map_err(from_store)?;
        let members = members.into_iter().map(|(client, record)| Member {
            client: client.into(),
            since_ms: record.since_ms,
            attributes: record.attributes.map(Into::into),
        });
        Ok(Page {
            members: members.collect(),
            cursor,
        })
    }

    /// The bucket of a channel of the event's namespace.
    fn presence_of(&self, channel: &str) -> Result<Text, Error> {
        if self.call.event.is_none() {
            return Err(Error::Denied(
                "presence can be read only while an event is handled".to_owned(),
            ));
        }
        let patterns = &self.app.settings.handler.presence.channels;
        if !patterns.iter().any(|pattern| pattern.matches(channel)) {
            return Err(Error::Denied(format!(
                "the presence of channel {channel:?} is not kept: add it to `presence.channels` of the app"
            )));
        }
        Ok(presence_bucket(&self.call.namespace, channel))
    }
}

fn from_store(error: store::Error) -> Error {
    match error {
        store::Error::Other(reason) => Error::Other(reason),
        other => Error::Other(other.to_string()),
    }
}
