//! What stands in for the contract's imports on targets other than wasm: the same functions, which note what they are
//! asked in the call that is going on.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;

use super::effects::{Command, Effects, Write};
use crate::bindings::plugnode::app::types::Context;
use crate::bindings::wasi::logging::logging::Level;
use crate::error::Result;

/// The buckets by name, each its keys and values.
pub(crate) type Buckets = BTreeMap<String, BTreeMap<String, Vec<u8>>>;

/// A line that a handler wrote to the log.
#[derive(Clone, PartialEq)]
pub struct Line {
    /// How much it matters.
    pub level: Level,
    /// What it says.
    pub message: String,
}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.level, self.message)
    }
}

/// What one call can see, and what it did so far.
#[derive(Default)]
pub(crate) struct Call {
    pub(crate) buckets: Buckets,
    pub(crate) config: BTreeMap<String, String>,
    pub(crate) log: Vec<Line>,
    pub(crate) effects: Effects,
    /// Whether there is no event: then nothing can be asked for or written.
    pub(crate) is_outside: bool,
    /// Whether the event has no client.
    pub(crate) is_nobodys: bool,
    /// Whether there is a door, and the event's client is at it.
    pub(crate) admission: bool,
    pub(crate) is_connection: bool,
}

thread_local! {
    static CALL: RefCell<Option<Call>> = const { RefCell::new(None) };
}

/// Runs `handle` within `call`, and gives the call back.
pub(crate) fn during<T>(call: Call, handle: impl FnOnce() -> T) -> (T, Call) {
    CALL.set(Some(call));
    let answer = handle();
    (answer, CALL.take().expect("put there above, and taken by nobody else"))
}

/// Runs a part of a handler as if within an event, and gives what it did.
pub fn recorded(part: impl FnOnce() -> Result) -> Result<Effects> {
    let (answer, call) = during(Call::default(), || {
        let _scope = crate::context::enter(context(0, 0, 0));
        part()
    });
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

fn call<T>(with: impl FnOnce(&mut Call) -> T) -> T {
    CALL.with_borrow_mut(|call| {
        let call = call
            .as_mut()
            .expect("outside of a handler's call: feed the handler an event by a `test::Kit`");
        with(call)
    })
}

pub(crate) mod outbox {
    use super::{Call, Command, call};
    pub(crate) use crate::bindings::plugnode::app::outbox::{Audience, Delivery, Error, Scope, Selection};
    use crate::payload::Payload;

    /// The most bytes of a refusal's message,
    const MESSAGE: usize = 1 << 10;
    /// and of its data.
    const DATA: usize = 16 << 10;

    fn note(command: Command) -> Result<(), Error> {
        call(|call| {
            if call.is_outside {
                let words = "there is no event that this could belong to: ask for it while one is handled";
                return Err(Error::Denied(words.into()));
            }
            call.effects.commands.push(command);
            Ok(())
        })
    }

    pub(crate) fn publish(to: &Audience, event: &str, args: &Payload, how: Delivery) -> Result<(), Error> {
        allowed(event)?;
        note(Command::Publish {
            to: to.clone(),
            event: event.into(),
            args: args.clone(),
            volatile: (how & Delivery::VOLATILE).bits() != 0,
            local: (how & Delivery::LOCAL).bits() != 0,
        })
    }

    pub(crate) fn subscribe(who: &Audience, channels: &[String]) -> Result<(), Error> {
        note(Command::Subscribe {
            who: who.clone(),
            channels: channels.into(),
        })
    }

    pub(crate) fn unsubscribe(who: &Audience, channels: &[String]) -> Result<(), Error> {
        note(Command::Unsubscribe {
            who: who.clone(),
            channels: channels.into(),
        })
    }

    pub(crate) fn ack(id: &str, args: &Payload) -> Result<(), Error> {
        note(Command::Ack {
            id: id.into(),
            args: args.clone(),
        })
    }

    pub(crate) fn request(
        to: &Audience,
        event: &str,
        args: &Payload,
        timeout_ms: u32,
        token: &[u8],
    ) -> Result<(), Error> {
        allowed(event)?;
        let (to, event, args, token) = (to.clone(), event.into(), args.clone(), token.into());
        note(Command::Request {
            to,
            event,
            args,
            timeout_ms,
            token,
        })
    }

    pub(crate) fn disconnect(who: &Audience, close_transport: bool) -> Result<(), Error> {
        note(Command::Disconnect {
            who: who.clone(),
            close_transport,
        })
    }

    pub(crate) fn patch_attributes(id: &str, patch: &str) -> Result<(), Error> {
        note(Command::PatchAttributes {
            id: id.into(),
            patch: patch.into(),
        })
    }

    pub(crate) fn custom(io_node: Option<&str>, kind: &str, data: &[u8]) -> Result<(), Error> {
        note(Command::Custom {
            io_node: io_node.map(Into::into),
            kind: kind.into(),
            data: data.into(),
        })
    }

    pub(crate) fn refuse(message: &str, data: Option<&str>) -> Result<(), Error> {
        call(|call| match call {
            Call { is_outside: true, .. } => Ok(()),
            Call { admission: false, .. } => Err(Error::Denied(
                "this app takes every client in: have the kit made `with_admission`".into(),
            )),
            Call {
                is_connection: false, ..
            } => Err(Error::Denied(
                "a client can be refused only while its connection is handled: disconnect it instead".into(),
            )),
            _ => Ok(()),
        })?;
        if message.len() > MESSAGE || data.is_some_and(|data| data.len() > DATA) {
            return Err(Error::PayloadTooLarge);
        }
        note(Command::Refuse {
            message: message.into(),
            data: data.map(Into::into),
        })
    }

    pub(crate) fn collect(
        to: &Audience,
        event: &str,
        args: &Payload,
        timeout_ms: u32,
        token: &[u8],
    ) -> Result<(), Error> {
        allowed(event)?;
        let (to, event, args, token) = (to.clone(), event.into(), args.clone(), token.into());
        ask(Command::Collect {
            to,
            event,
            args,
            timeout_ms,
            token,
        })
    }

    pub(crate) fn find_clients(who: &Audience, most: u32, timeout_ms: u32, token: &[u8]) -> Result<(), Error> {
        let (who, token) = (who.clone(), token.into());
        ask(Command::FindClients {
            who,
            most,
            timeout_ms,
            token,
        })
    }

    pub(crate) fn list_channels(
        namespace: Option<&str>,
        most: u32,
        timeout_ms: u32,
        token: &[u8],
    ) -> Result<(), Error> {
        let (namespace, token) = (namespace.map(Into::into), token.into());
        ask(Command::ListChannels {
            namespace,
            most,
            timeout_ms,
            token,
        })
    }

    pub(crate) fn settle(timeout_ms: u32, token: &[u8]) -> Result<(), Error> {
        let token = token.into();
        ask(Command::Settle { timeout_ms, token })
    }

    fn ask(question: Command) -> Result<(), Error> {
        if call(|call| call.is_nobodys && !call.is_outside) {
            let words = "this event has no client that the answer could come to";
            return Err(Error::Denied(words.into()));
        }
        note(question)
    }

    /// Socket.IO keeps these names for itself.
    fn allowed(event: &str) -> Result<(), Error> {
        match event {
            "connect" | "connect_error" | "disconnect" | "disconnecting" | "newListener" | "removeListener" => Err(
                Error::Invalid(format!("`{event}` is a name that Socket.IO keeps for itself")),
            ),
            _ => Ok(()),
        }
    }
}

pub(crate) mod store {
    use super::{Call, Write, call};
    pub(crate) use crate::bindings::wasi::keyvalue::store::{Error, KeyResponse};

    /// Keys in a page. Few, so that tests meet more than one page.
    const PAGE: usize = 10;

    #[derive(Debug)]
    pub(crate) struct Bucket {
        name: String,
    }

    pub(crate) fn open(name: &str) -> Result<Bucket, Error> {
        Ok(Bucket { name: name.into() })
    }

    impl Bucket {
        pub(crate) fn get(&self, key: &str) -> Result<Option<Vec<u8>>, Error> {
            Ok(call(|call| self.read(call, key)))
        }

        pub(crate) fn set(&self, key: &str, value: &[u8]) -> Result<(), Error> {
            self.write(key, Some(value.into()))
        }

        pub(crate) fn delete(&self, key: &str) -> Result<(), Error> {
            self.write(key, None)
        }

        pub(crate) fn exists(&self, key: &str) -> Result<bool, Error> {
            Ok(self.get(key)?.is_some())
        }

        pub(crate) fn list_keys(&self, cursor: Option<u64>) -> Result<KeyResponse, Error> {
            let from = cursor.unwrap_or(0) as usize;
            let keys = call(|call| {
                let committed = call
                    .buckets
                    .get(&self.name)
                    .into_iter()
                    .flat_map(|bucket| bucket.keys());
                let written = self.writes(call).map(|write| &write.key);
                let mut keys = committed.chain(written).cloned().collect::<Vec<_>>();
                keys.sort_unstable();
                keys.dedup();
                keys.retain(|key| self.read(call, key).is_some());
                keys
            });
            let cursor = (keys.len() > from + PAGE).then_some((from + PAGE) as u64);
            Ok(KeyResponse {
                keys: keys.into_iter().skip(from).take(PAGE).collect(),
                cursor,
            })
        }

        fn read(&self, call: &Call, key: &str) -> Option<Vec<u8>> {
            match self.writes(call).filter(|write| write.key == key).last() {
                Some(write) => write.value.clone(),
                None => call.buckets.get(&self.name)?.get(key).cloned(),
            }
        }

        fn write(&self, key: &str, value: Option<Vec<u8>>) -> Result<(), Error> {
            call(|call| {
                if call.is_outside {
                    let words = "there is no event that this write could belong to: write while one is handled";
                    return Err(Error::Other(words.into()));
                }
                call.effects.writes.push(Write {
                    bucket: self.name.clone(),
                    key: key.into(),
                    value,
                });
                Ok(())
            })
        }

        fn writes<'a>(&'a self, call: &'a Call) -> impl Iterator<Item = &'a Write> {
            call.effects.writes.iter().filter(|write| write.bucket == self.name)
        }
    }
}

pub(crate) mod batch {
    use super::store::{Bucket, Error};

    type Pair = (String, Vec<u8>);

    pub(crate) fn get_many(bucket: &Bucket, keys: &[String]) -> Result<Vec<Option<Pair>>, Error> {
        keys.iter()
            .map(|key| Ok(bucket.get(key)?.map(|value| (key.clone(), value))))
            .collect()
    }

    pub(crate) fn set_many(bucket: &Bucket, pairs: &[Pair]) -> Result<(), Error> {
        pairs.iter().try_for_each(|(key, value)| bucket.set(key, value))
    }

    pub(crate) fn delete_many(bucket: &Bucket, keys: &[String]) -> Result<(), Error> {
        keys.iter().try_for_each(|key| bucket.delete(key))
    }
}

pub(crate) mod config {
    use super::call;
    pub(crate) use crate::bindings::wasi::config::store::Error;

    pub(crate) fn get(key: &str) -> Result<Option<String>, Error> {
        Ok(call(|call| call.config.get(key).cloned()))
    }

    pub(crate) fn get_all() -> Result<Vec<(String, String)>, Error> {
        Ok(call(|call| call.config.clone().into_iter().collect()))
    }
}

pub(crate) mod logging {
    use super::{Level, Line, call};

    pub(crate) fn log(level: Level, _context: &str, message: &str) {
        call(|call| {
            call.log.push(Line {
                level,
                message: message.into(),
            })
        });
    }
}
