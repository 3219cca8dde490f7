//! The trait that a handler implements, and the way from the contract's functions to its methods.

use std::cell::RefCell;
use std::thread::LocalKey;

use crate::bindings::exports::plugnode::app::snapshot::State;
use crate::bindings::plugnode::app::types::{Context, Event, HandlerError};
use crate::client::Client;
use crate::context;
use crate::error::{Error, Result};
use crate::incoming::{Custom, DisconnectReason, Handshake, Incoming, Reply};
use crate::late_reply;
use crate::schedule::Due;
use crate::snapshot::Snapshot;

/// A Socket.IO application.
///
/// Each method handles one event. Everything it asks for is carried out once it returns `Ok`, as a whole; when it
/// returns an error or panics, none of it is. Events of one client come in order and one at a time; those of different
/// clients are handled at the same time by several instances, each with a value of this type of its own, made by
/// `Default`. So what belongs to more than one call is kept in a bucket ([`kv`](crate::kv)) or in the client's
/// attributes, and memory is for what can be found again, or handed to the instance that takes this one's place when a
/// new release is deployed: [`replace`](crate::replace) says how.
///
/// The methods do nothing unless they are written.
#[allow(unused_variables)]
pub trait Handler: Default + 'static {
    /// A client has connected. The first event of every client. In an app with `admission = true`, it is about to, and comes
    /// in unless it is [refused](Client::refuse).
    fn on_connection(&mut self, client: &Client, handshake: &Handshake) -> Result {
        Ok(())
    }

    /// A client emitted something.
    fn on_message(&mut self, client: &Client, message: &Incoming) -> Result {
        Ok(())
    }

    /// A client is gone. The last event of every client, once. The channels that it was in are
    /// [`context().channels()`](crate::Context::channels).
    fn on_disconnect(&mut self, client: &Client, reason: &DisconnectReason) -> Result {
        Ok(())
    }

    /// The next event is of a client whose connection this very instance has not seen. A handler that keeps something
    /// in memory for each client makes it anew here.
    fn on_no_client(&mut self, client: &Client) -> Result {
        Ok(())
    }

    /// A client answered a request, or did not in time. Or io-nodes have answered a question of this client's event, which
    /// [`answers`](crate::answers) reads.
    fn on_reply(&mut self, client: &Client, reply: &Reply) -> Result {
        Ok(())
    }

    /// Io-nodes have answered a question that was asked for a client which is gone, by [`on_disconnect`](Self::on_disconnect) or
    /// before that. It comes after the client's disconnect. A command for "the client of this event" has nobody to go to, so
    /// what is asked of io-nodes here is denied.
    fn on_late_reply(&mut self, client_id: &str, reply: &Reply) -> Result {
        Ok(())
    }

    /// A timer is due that the handler has set: see [`schedule`](crate::schedule).
    fn on_timer(&mut self, due: &Due) -> Result {
        Ok(())
    }

    /// Something that no client sent: from the code that embeds an io-node, or from the host.
    fn on_custom(&mut self, custom: &Custom) -> Result {
        Ok(())
    }

    /// This instance begins: called once, before anything else. With an error the component cannot be used, and what it
    /// was to replace stays in use. There is no event: commands and writes are denied, and there is no
    /// [`context`](crate::context); [`config`](crate::config) is there.
    fn on_start(&mut self) -> Result {
        Ok(())
    }

    /// No event will come any more. Called on a best effort, and outside of an event as [`on_start`](Self::on_start).
    fn on_stop(&mut self) {}

    /// What the instance that takes this one's place is to [`load`](Self::load); called after
    /// [`on_stop`](Self::on_stop), outside of an event. With an error nothing is handed over, and the host reports it.
    fn save(&self) -> Result<Option<Snapshot>> {
        Ok(None)
    }

    /// What the instance before this one saved: called before the first event and after [`on_start`](Self::on_start),
    /// outside of an event, unless nothing was saved. With an error the host makes another instance, which begins with
    /// nothing, and reports it. A handler that does not write this refuses, so that nothing is left behind in silence.
    fn load(&mut self, snapshot: Snapshot) -> Result {
        let schema = snapshot.schema;
        Err(Error::reject(format!(
            "this release takes over no state, and was given `{schema}`"
        )))
    }
}

/// Makes a [`Handler`] the handler of this component. Once in a crate, which is a `cdylib`.
///
/// Does nothing on targets other than wasm, where a handler is driven by a [`Kit`](crate::test::Kit).
#[macro_export]
macro_rules! export {
    ($handler:ty) => {
        #[cfg(target_family = "wasm")]
        const _: () = {
            ::std::thread_local! {
                static HANDLER: ::std::cell::RefCell<$handler> = ::core::default::Default::default();
            }

            struct Component;

            impl $crate::bindings::exports::plugnode::app::handler::Guest for Component {
                fn handle(
                    event: $crate::bindings::plugnode::app::types::Event,
                    context: $crate::bindings::plugnode::app::types::Context,
                ) -> ::core::result::Result<(), $crate::bindings::plugnode::app::types::HandlerError> {
                    $crate::handle(&HANDLER, event, context)
                }
            }

            impl $crate::bindings::exports::plugnode::app::lifecycle::Guest for Component {
                fn start(
                    _: ::std::vec::Vec<(::std::string::String, ::std::string::String)>,
                ) -> ::core::result::Result<(), ::std::string::String> {
                    $crate::start(&HANDLER)
                }

                fn stop() {
                    $crate::stop(&HANDLER)
                }
            }

            impl $crate::bindings::exports::plugnode::app::snapshot::Guest for Component {
                fn save() -> ::core::result::Result<
                    $crate::bindings::exports::plugnode::app::snapshot::State,
                    ::std::string::String,
                > {
                    $crate::save(&HANDLER)
                }

                fn load(
                    state: $crate::bindings::exports::plugnode::app::snapshot::State,
                ) -> ::core::result::Result<(), ::std::string::String> {
                    $crate::load(&HANDLER, state)
                }
            }

    $crate::bindings::export_component!(Component with_types_in $crate::bindings);
        };
    };
}

/// Handles one event by the handler of this instance. What `export!` calls.
#[doc(hidden)]
pub fn handle<H: Handler>(
    handler: &'static LocalKey<RefCell<H>>,
    event: Event,
    context: Context,
) -> std::result::Result<(), HandlerError> {
    handler
        .with_borrow_mut(|handler| dispatch(handler, event, context))
        .map_err(HandlerError::from)
}

/// Begins. What `export!` calls; the configuration is read by [`config`](crate::config).
#[doc(hidden)]
pub fn start<H: Handler>(handler: &'static LocalKey<RefCell<H>>) -> std::result::Result<(), String> {
    handler.with_borrow_mut(H::on_start).map_err(reason)
}

/// Ends. What `export!` calls.
#[doc(hidden)]
pub fn stop<H: Handler>(handler: &'static LocalKey<RefCell<H>>) {
    handler.with_borrow_mut(H::on_stop);
}

/// Hands over. What `export!` calls.
#[doc(hidden)]
pub fn save<H: Handler>(handler: &'static LocalKey<RefCell<H>>) -> std::result::Result<State, String> {
    let snapshot = handler.with_borrow(H::save).map_err(reason)?;
    // In the contract, a state with nothing in it is none.
    let (schema, data) = snapshot
        .map(|snapshot| (snapshot.schema, snapshot.data))
        .unwrap_or_default();
    Ok(State { schema, data })
}

/// Takes over. What `export!` calls.
#[doc(hidden)]
pub fn load<H: Handler>(handler: &'static LocalKey<RefCell<H>>, state: State) -> std::result::Result<(), String> {
    let State { schema, data } = state;
    let snapshot = Snapshot { schema, data };
    handler
        .with_borrow_mut(|handler| handler.load(snapshot))
        .map_err(reason)
}

/// The error's own words: outside of an event there is no other attempt, and so no kinds of errors.
pub(crate) fn reason(error: Error) -> String {
    match error {
        Error::Retry(reason) | Error::Reject(reason) => reason,
    }
}

pub(crate) fn dispatch(handler: &mut impl Handler, event: Event, context: Context) -> Result {
    let _scope = context::enter(context);
    match event {
        Event::Connection((client, handshake)) => handler.on_connection(&client.into(), &handshake),
        Event::Message((client, message)) => handler.on_message(&client.into(), &message.into()),
        Event::Disconnect((client, reason)) => handler.on_disconnect(&client.into(), &reason),
        Event::NoClient(client) => handler.on_no_client(&client.into()),
        Event::Reply((client, reply)) => handler.on_reply(&client.into(), &reply.into()),
        Event::Custom(custom) => match late_reply::read(&custom) {
            Some((client_id, reply)) => handler.on_late_reply(&client_id, &reply),
            None => match Due::read(&custom, &context::context()) {
                Some(due) => handler.on_timer(&due),
                None => handler.on_custom(&custom),
            },
        },
    }
}
