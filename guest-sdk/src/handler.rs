//! The trait that a handler implements, and the way from the contract's one function to its methods.

use std::cell::RefCell;
use std::thread::LocalKey;

use crate::bindings::plugnode::app::types::{Context, Event, HandlerError};
use crate::client::Client;
use crate::context;
use crate::error::Result;
use crate::incoming::{Custom, DisconnectReason, Handshake, Incoming, Reply};

/// A Socket.IO application.
///
/// Each method handles one event. Everything it asks for is carried out once it returns `Ok`, as a whole; when it
/// returns an error or panics, none of it is. Events of one client come in order and one at a time; those of different
/// clients are handled at the same time by several instances, each with a value of this type of its own, made by
/// `Default`. So what belongs to more than one call is kept in a bucket ([`kv`](crate::kv)) or in the client's
/// attributes, and memory is for what can be found again.
///
/// The methods do nothing unless they are written.
#[allow(unused_variables)]
pub trait Handler: Default + 'static {
    /// A client has connected. The first event of every client.
    fn on_connection(&mut self, client: &Client, handshake: &Handshake) -> Result {
        Ok(())
    }

    /// A client emitted something.
    fn on_message(&mut self, client: &Client, message: &Incoming) -> Result {
        Ok(())
    }

    /// A client is gone. The last event of every client, once.
    fn on_disconnect(&mut self, client: &Client, reason: &DisconnectReason) -> Result {
        Ok(())
    }

    /// The next event is of a client whose connection this very instance has not seen. A handler that keeps something
    /// in memory for each client makes it anew here.
    fn on_no_client(&mut self, client: &Client) -> Result {
        Ok(())
    }

    /// A client answered a request, or did not in time.
    fn on_reply(&mut self, client: &Client, reply: &Reply) -> Result {
        Ok(())
    }

    /// Something that no client sent: from the code that embeds an io-node, or from the host.
    fn on_custom(&mut self, custom: &Custom) -> Result {
        Ok(())
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

pub(crate) fn dispatch(handler: &mut impl Handler, event: Event, context: Context) -> Result {
    let _scope = context::enter(context);
    match event {
        Event::Connection((client, handshake)) => handler.on_connection(&client.into(), &handshake),
        Event::Message((client, message)) => handler.on_message(&client.into(), &message.into()),
        Event::Disconnect((client, reason)) => handler.on_disconnect(&client.into(), &reason),
        Event::NoClient(client) => handler.on_no_client(&client.into()),
        Event::Reply((client, reply)) => handler.on_reply(&client.into(), &reply.into()),
        Event::Custom(custom) => handler.on_custom(&custom),
    }
}
