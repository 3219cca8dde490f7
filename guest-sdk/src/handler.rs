//! The trait that a handler implements, and the dispatch from the contract's functions to its methods.

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
/// Each method handles one event. Its effects are committed as a whole when it returns `Ok`, and dropped when it returns an
/// error or panics. The events of one client are handled in order, one at a time. Events of different clients are handled
/// concurrently by several instances, each with its own value of this type, created by `Default`.
///
/// Keep shared state in a bucket ([`kv`](crate::kv)) and per-client state in the client's attributes. Use memory for
/// state that can be rebuilt, or that is handed over when a new release is deployed: see [`replace`](crate::replace).
///
/// The default methods do nothing, except [`load`](Self::load).
#[allow(unused_variables)]
pub trait Handler: Default + 'static {
    /// A client has connected. The first event of every client. With `admission = true`, the client is still waiting and is
    /// connected after this event unless it is [refused](Client::refuse).
    fn on_connection(&mut self, client: &Client, handshake: &Handshake) -> Result {
        Ok(())
    }

    /// A client emitted an event.
    fn on_message(&mut self, client: &Client, message: &Incoming) -> Result {
        Ok(())
    }

    /// A client has disconnected. The last event of every client; occurs exactly once.
    /// [`context().channels()`](crate::Context::channels) has the channels that it was subscribed to.
    fn on_disconnect(&mut self, client: &Client, reason: &DisconnectReason) -> Result {
        Ok(())
    }

    /// The next event belongs to a client whose connection this instance did not handle. A handler that keeps state per client
    /// in memory rebuilds it here.
    fn on_no_client(&mut self, client: &Client) -> Result {
        Ok(())
    }

    /// A client answered a request or did not answer in time, or a cluster query made in one of this client's events has its
    /// result: see [`answers`](crate::answers).
    fn on_reply(&mut self, client: &Client, reply: &Reply) -> Result {
        Ok(())
    }

    /// The result of a cluster query whose client has disconnected since, or that was made in its
    /// [`on_disconnect`](Self::on_disconnect). Called after the client's disconnect. The event has no client, so further cluster
    /// queries are denied.
    fn on_late_reply(&mut self, client_id: &str, reply: &Reply) -> Result {
        Ok(())
    }

    /// A timer that the handler set is due: see [`schedule`](crate::schedule).
    fn on_timer(&mut self, due: &Due) -> Result {
        Ok(())
    }

    /// An event that no client sent: from the server API ([`Custom::ack`] answers its caller), from the program that embeds an
    /// io-node, or from the host.
    fn on_custom(&mut self, custom: &Custom) -> Result {
        Ok(())
    }

    /// Called once when this instance starts, before any other method. An error means that the component cannot be used, and
    /// the release that it was to replace stays in use. Runs outside of an event: commands and writes are denied and
    /// [`context`](crate::context) is unavailable; [`config`](crate::config) is available.
    fn on_start(&mut self) -> Result {
        Ok(())
    }

    /// Called after the last event, on a best effort. Runs outside of an event, like [`on_start`](Self::on_start).
    fn on_stop(&mut self) {}

    /// Returns the state that the successor of this instance will [`load`](Self::load); none to hand over nothing. Called after
    /// [`on_stop`](Self::on_stop), outside of an event. After an error nothing is handed over, and the host reports it.
    fn save(&self) -> Result<Option<Snapshot>> {
        Ok(None)
    }

    /// Takes over the state that the previous instance saved. Called after [`on_start`](Self::on_start) and before the first
    /// event, outside of an event; not called if nothing was saved. After an error the host starts another instance, which is
    /// empty, and reports it. The default returns an error, so that state is never lost silently.
    fn load(&mut self, snapshot: Snapshot) -> Result {
        let schema = snapshot.schema;
        Err(Error::reject(format!(
            "this release cannot load state `{schema}`: it does not implement `load`"
        )))
    }
}

/// Exports a [`Handler`] as the handler of this component. Use it once per crate, which must be a `cdylib`.
///
/// Expands to nothing on targets other than wasm; there, a [`Kit`](crate::test::Kit) drives the handler.
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

/// Handles one event. Called by `export!`.
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

/// Starts the instance. Called by `export!`; handlers read the configuration through [`config`](crate::config).
#[doc(hidden)]
pub fn start<H: Handler>(handler: &'static LocalKey<RefCell<H>>) -> std::result::Result<(), String> {
    handler.with_borrow_mut(H::on_start).map_err(reason)
}

/// Stops the instance. Called by `export!`.
#[doc(hidden)]
pub fn stop<H: Handler>(handler: &'static LocalKey<RefCell<H>>) {
    handler.with_borrow_mut(H::on_stop);
}

/// Saves the state. Called by `export!`.
#[doc(hidden)]
pub fn save<H: Handler>(handler: &'static LocalKey<RefCell<H>>) -> std::result::Result<State, String> {
    let snapshot = handler.with_borrow(H::save).map_err(reason)?;
    // In the contract, an empty state means none.
    let (schema, data) = snapshot
        .map(|snapshot| (snapshot.schema, snapshot.data))
        .unwrap_or_default();
    Ok(State { schema, data })
}

/// Loads a state. Called by `export!`.
#[doc(hidden)]
pub fn load<H: Handler>(handler: &'static LocalKey<RefCell<H>>, state: State) -> std::result::Result<(), String> {
    let State { schema, data } = state;
    let snapshot = Snapshot { schema, data };
    handler
        .with_borrow_mut(|handler| handler.load(snapshot))
        .map_err(reason)
}

/// The reason of an error. Outside of an event nothing is retried, so the kind of error does not matter.
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
