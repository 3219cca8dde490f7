//! The functions that ask all io-nodes something: their answers come back as one reply of the client whose event it is.

use super::lift::check_name;
use super::wit::{self, Error};
use crate::state::State;
use plugnode_message::{Asker, Command, Question};

/// The most clients or channels that are named in an answer.
const MOST: u32 = 10_000;
/// The longest that answers are waited for, in milliseconds.
const LONGEST: u32 = 60_000;

impl State {
    pub(super) fn try_collect(
        &mut self,
        to: wit::Audience,
        event: String,
        args: wit::Payload,
        timeout_ms: u32,
        token: Vec<u8>,
    ) -> Result<(), Error> {
        check_name(&event)?;
        let args = self.payload(args)?;
        let (to, size) = self.audience(to)?;
        let size = size + event.len() + args.size();
        let event = event.into();
        self.ask(Question::Acks { to, event, args }, size, timeout_ms, token)
    }

    pub(super) fn try_find_clients(
        &mut self,
        who: wit::Audience,
        most: u32,
        timeout_ms: u32,
        token: Vec<u8>,
    ) -> Result<(), Error> {
        let (who, size) = self.audience(who)?;
        let most = most.min(MOST);
        self.ask(Question::Clients { who, most }, size, timeout_ms, token)
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
        let most = most.min(MOST);
        self.ask(Question::Channels { namespace, most }, size, timeout_ms, token)
    }

    /// Notes a question that counts for so many bytes, less its token.
    pub(super) fn ask(
        &mut self,
        question: Question,
        size: usize,
        timeout_ms: u32,
        token: Vec<u8>,
    ) -> Result<(), Error> {
        self.check_in_event()?;
        self.check_size(token.len())?;
        let (Some(event), Some(client)) = (self.call.event, &self.call.client) else {
            let words = "this event has no client that the answer could come to";
            return Err(Error::Denied(words.to_owned()));
        };
        let asker = Asker {
            // The same for each attempt at the event, of which one takes effect.
            id: format!("{event}.{}", self.call.effects.commands.len()).into(),
            namespace: self.call.namespace.clone(),
            client: client.id.clone(),
            io_node: client.io_node.clone(),
        };
        let size = size + token.len();
        let timeout_ms = timeout_ms.min(LONGEST);
        let token = token.into();
        self.note_command(
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
