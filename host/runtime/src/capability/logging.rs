//! `wasi:logging`: the handler writes lines to the host's log, at the level that it chooses.

use wasmtime::component::HasSelf;

use super::definition::{Capability, Package};
use crate::bindings::wasi::logging::logging::{self, Level};
use crate::state::InstanceState;

pub(super) const CAPABILITY: Capability = Capability {
    serves: &[Package {
        name: "wasi:logging",
        version: "0.1.0-draft",
        interfaces: &["logging"],
    }],
    grant: None,
    link: |linker| logging::add_to_linker::<InstanceState, HasSelf<InstanceState>>(linker, |state| state),
};

impl logging::Host for InstanceState {
    fn log(&mut self, level: Level, context: String, message: String) -> wasmtime::Result<()> {
        if !self.output.take(context.len() + message.len()) {
            return Ok(());
        }
        let (app, instance) = (&self.app.settings.namespace, self.instance);
        macro_rules! log {
            ($level:ident) => {
                tracing::$level!(%app, instance, context, "{message}")
            };
        }
        match level {
            Level::Trace => log!(trace),
            Level::Debug => log!(debug),
            Level::Info => log!(info),
            Level::Warn => log!(warn),
            Level::Error | Level::Critical => log!(error),
        }
        Ok(())
    }
}
