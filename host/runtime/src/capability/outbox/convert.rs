//! Converts payloads, audiences and names: from the types that components use to those of a command, and from these to those of
//! an effect. Texts and bytes are moved.

use plugnode_sdk::native as sdk;

use crate::bindings::plugnode::app::outbox as wit;
use crate::state::InstanceState;
use plugnode_message::{Audience, Channel, Namespace, Payload, Scope, Selection, SessionId};

impl From<wit::Payload> for sdk::Payload {
    fn from(wit::Payload { json, attachments }: wit::Payload) -> Self {
        Self { json, attachments }
    }
}

impl From<wit::Audience> for sdk::Audience {
    fn from(audience: wit::Audience) -> Self {
        Self {
            namespace: audience.namespace,
            to: match audience.to {
                wit::Scope::All => sdk::Scope::All,
                wit::Scope::Only(only) => sdk::Scope::Only(only.into()),
            },
            except: audience.except.into(),
        }
    }
}

impl From<wit::Selection> for sdk::Selection {
    fn from(wit::Selection { clients, channels }: wit::Selection) -> Self {
        Self { clients, channels }
    }
}

impl From<sdk::Error> for wit::Error {
    fn from(error: sdk::Error) -> Self {
        match error {
            sdk::Error::Denied(reason) => Self::Denied(reason),
            sdk::Error::QuotaExceeded => Self::QuotaExceeded,
            sdk::Error::PayloadTooLarge => Self::PayloadTooLarge,
            sdk::Error::Invalid(reason) => Self::Invalid(reason),
            sdk::Error::Other(reason) => Self::Other(reason),
        }
    }
}

impl InstanceState {
    pub(super) fn audience(&self, audience: sdk::Audience) -> Audience {
        Audience {
            namespace: self.namespace(audience.namespace),
            to: match audience.to {
                sdk::Scope::All => Scope::All,
                sdk::Scope::Only(only) => Scope::Only(selection(only)),
            },
            except: selection(audience.except),
        }
    }

    /// The namespace with this name; without one, that of the event.
    pub(super) fn namespace(&self, name: Option<String>) -> Namespace {
        name.map_or_else(|| self.call.namespace.clone(), Namespace::from)
    }
}

pub(super) fn payload(payload: sdk::Payload) -> Payload {
    Payload {
        json: payload.json.into(),
        attachments: payload.attachments.into_iter().map(Into::into).collect(),
    }
}

pub(super) fn channels(names: Vec<String>) -> Vec<Channel> {
    names.into_iter().map(Channel::from).collect()
}

fn selection(selection: sdk::Selection) -> Selection {
    Selection {
        clients: selection.clients.into_iter().map(SessionId::from).collect(),
        channels: channels(selection.channels),
    }
}
