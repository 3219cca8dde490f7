//! A handler that runs a script: QuickJS, with what Socket.IO's users expect around it.
//!
//! Each instance evaluates its script once, at its start. From then on an event is a call of one function of `../src/internal.js`,
//! which finds the script's listeners; `engine` runs promise jobs and timers until the event is done, and `host` is what
//! JavaScript can call. What a Socket.IO server looks like is known to the JavaScript alone.

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
