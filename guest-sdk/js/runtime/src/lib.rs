//! The JavaScript runtime: a handler component that runs a script with QuickJS.
//!
//! Each instance evaluates its script once, at start. After that, each event is one call of `dispatch` in `../../src/internal.js`,
//! which calls the script's listeners. `engine` runs promise jobs and timers until the event is done, and `host` has the functions
//! that JavaScript can call. Only the JavaScript modules know the API of Socket.IO.

mod engine;
mod events;
mod fetch;
mod host;
mod modules;

#[allow(unsafe_code, missing_docs, reason = "generated")]
mod bindings {
    wit_bindgen::generate!({
        path: ["../../../wit", "wit"],
        world: "plugnode:js-runtime/runtime",
        generate_all,
    });
    use super::Handler;
    export!(Handler);
}

use bindings::exports::plugnode::app::handler::{Context, Event, HandlerError};
use bindings::exports::plugnode::app::{handler, lifecycle};

struct Handler;

impl handler::Guest for Handler {
    fn handle(event: Event, context: Context) -> Result<(), HandlerError> {
        engine::handle(event, context)
    }
}

impl lifecycle::Guest for Handler {
    fn start(config: Vec<(String, String)>) -> Result<(), String> {
        engine::start(config)
    }

    fn stop() {}
}
