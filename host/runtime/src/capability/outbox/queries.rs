//! Queries to all io-nodes, whose answers come back as one reply event of the client whose event is handled.

use super::lift::check_event_name;
use crate::bindings::plugnode::app::outbox::{self as wit, Error};
use crate::state::InstanceState;
use plugnode_message::{Asker, Command, Question};

/// Most clients or channels in an answer.
const MAX_NAMES: u32 = 10_000;
/// Longest wait for answers, in milliseconds.
const MAX_TIMEOUT_MS: u32 = 60_000;

impl InstanceState {
    pub(super) fn try_collect(
        &mut self,
        to: wit::Audience,
        event: String,
        args: wit::Payload,
        timeout_ms: u32,
        token: Vec<u8>,
    ) -> Result<(), Error> {
        check_event_name(&event)?;
        let args = self.payload(args)?;
        let (to, size) = self.audience(to)?;
        let size = size + event.len() + args.size();
        let event = event.into();
        self.add_query(Question::Acks { to, event, args }, size, timeout_ms, token)
    }

    pub(super) fn try_find_clients(
        &mut self,
        who: wit::Audience,
        most: u32,
        timeout_ms: u32,
        token: Vec<u8>,
    ) -> Result<(), Error> {
        let (who, size) = self.audience(who)?;
        let most = most.min(MAX_NAMES);
        self.add_query(Question::Clients { who, most }, size, timeout_ms, token)
    }

    pub(super) fn try_list_channels(
        &mut self,
        namespace: Option<String>,
        most: u32,
        timeout_ms: u32,
        token: Vec<u8>,
    ) -> Result<(), Error> {
        let namespace = self.namespace(namespace)?;
        let size = namespace.as_str().len();
        let most = most.min(MAX_NAMES);
        self.add_query(Question::Channels { namespace, most }, size, timeout_ms, token)
    }

    /// Adds a query, which counts for `size` bytes plus its token.
    pub(super) fn add_query(
        &mut self,
        question: Question,
        size: usize,
        timeout_ms: u32,
        token: Vec<u8>,
    ) -> Result<(), Error> {
        self.check_in_event()?;
        self.check_size(token.len())?;
        let (Some(event), Some(client)) = (self.call.event, &self.call.client) else {
            let reason = "cannot query io-nodes: this event has no client to receive the answer";
            return Err(Error::Denied(reason.to_owned()));
        };
        let asker = Asker {
            // The same for each attempt at the event, only one of which takes effect.
            id: format!("{event}.{}", self.call.effects.commands.len()).into(),
            namespace: self.call.namespace.clone(),
            client: client.id.clone(),
            io_node: client.io_node.clone(),
        };
        let size = size + token.len();
        let timeout_ms = timeout_ms.min(MAX_TIMEOUT_MS);
        let token = token.into();
        self.add_command(
            Command::Ask {
                asker,
                question,
                timeout_ms,
                token,
            },
            size,
        )
    }
}
