//! The code of an instance, ready to be called: a wasmtime Store with a component in it, or native Rust. Everything else
//! about an instance is the same for both.

use std::time::{Duration, Instant};

use wasmtime::{Store, UpdateDeadline};

use crate::app::App;
use crate::bindings::exports::plugnode::app::snapshot::StateParam;
use crate::bindings::plugnode::app::types as wit;
use crate::component::Code;
use crate::exports::{GuestExports, HandlerPre};
use crate::failure::Trap;
use crate::instance_limit::InstancePermit;
use crate::native::NativeInstance;
use crate::state::{HostFailure, InstanceState};

/// Bytes that a handler can pass to one host call, at least.
const MIN_HOSTCALL_FUEL: usize = 1 << 20;

const NO_SNAPSHOT: &str = "the component does not export plugnode:app/snapshot";

/// The code of an instance. Its calls have no time-out of their own beyond epochs: the caller watches the deadline.
pub(crate) enum Guest {
    Wasm(Box<WasmGuest>),
    Native(NativeInstance),
}

/// An instance of a component.
pub(crate) struct WasmGuest {
    store: Store<InstanceState>,
    exports: GuestExports,
    _permit: InstancePermit,
}

/// The state of an instance, as it saved it.
#[derive(Debug)]
pub(crate) struct Snapshot {
    /// Format of the data, by the handler's own name for it.
    pub(crate) schema: String,
    pub(crate) data: Vec<u8>,
}

impl Guest {
    /// Instantiates the code with this state, in which a call has begun, and calls its start function.
    ///
    /// # Errors
    /// The reason why it does not start.
    pub(crate) async fn start(code: &Code, state: InstanceState, permit: InstancePermit) -> Result<Self, String> {
        match code {
            Code::Wasm(pre) => Ok(Self::Wasm(Box::new(WasmGuest::start(pre, state, permit).await?))),
            Code::Native(native) => Ok(Self::Native(native.start(state, permit).await?)),
        }
    }

    /// The state of the instance, with that of its current call.
    pub(crate) fn state(&mut self) -> &mut InstanceState {
        match self {
            Self::Wasm(wasm) => wasm.store.data_mut(),
            Self::Native(native) => native.state(),
        }
    }

    /// The host's failure in the current call, if there was one and it is known.
    pub(crate) fn host_failure(&self) -> Option<HostFailure> {
        match self {
            Self::Wasm(wasm) => wasm.store.data().call.host_failure.clone(),
            Self::Native(native) => native.host_failure(),
        }
    }

    /// The reason to report for a call that did not return by its deadline.
    pub(crate) fn timeout_reason(&self, limit: Duration) -> String {
        match self {
            Self::Wasm(_) => format!("time limit of {limit:?} (limits.time-ms) reached while it waited for the host"),
            Self::Native(native) => native.timeout_reason(limit),
        }
    }

    /// Whether it has a stop function.
    pub(crate) fn has_lifecycle(&self) -> bool {
        match self {
            Self::Wasm(wasm) => wasm.exports.lifecycle.is_some(),
            Self::Native(_) => true,
        }
    }

    /// Whether it can save and load its state.
    pub(crate) fn has_snapshot(&self) -> bool {
        match self {
            Self::Wasm(wasm) => wasm.exports.snapshot.is_some(),
            Self::Native(_) => false,
        }
    }

    /// Calls the handler with an event.
    pub(crate) async fn handle(
        &mut self,
        event: wit::Event<'_>,
        context: wit::Context<'_>,
    ) -> Result<Result<(), wit::HandlerError>, Trap> {
        match self {
            Self::Wasm(wasm) => {
                wasm.store.set_epoch_deadline(1);
                let handled = wasm.exports.handler.call_handle(&mut wasm.store, event, context).await;
                handled.map_err(|error| wasm.trap(&error))
            }
            Self::Native(native) => native.handle(event, context).await,
        }
    }

    /// Calls its stop function.
    pub(crate) async fn stop(&mut self) -> Result<(), Trap> {
        match self {
            Self::Wasm(wasm) => {
                let Some(lifecycle) = &wasm.exports.lifecycle else {
                    return Ok(());
                };
                wasm.store.set_epoch_deadline(1);
                let stopped = lifecycle.call_stop(&mut wasm.store).await;
                stopped.map_err(|error| wasm.trap(&error))
            }
            Self::Native(native) => native.stop().await,
        }
    }

    /// Saves its state. A state of up to twice `max_bytes` is returned, for the caller to refuse with its size; a larger one
    /// traps before it is copied.
    pub(crate) async fn save(&mut self, max_bytes: usize) -> Result<Result<Snapshot, String>, Trap> {
        let Self::Wasm(wasm) = self else {
            return Ok(Err(NO_SNAPSHOT.to_owned()));
        };
        let Some(snapshot) = &wasm.exports.snapshot else {
            return Ok(Err(NO_SNAPSHOT.to_owned()));
        };
        wasm.store
            .set_hostcall_fuel(max_bytes.saturating_mul(2).max(MIN_HOSTCALL_FUEL));
        wasm.store.set_epoch_deadline(1);
        match snapshot.call_save(&mut wasm.store).await {
            Ok(saved) => Ok(saved.map(|saved| Snapshot {
                schema: saved.schema,
                data: saved.data,
            })),
            Err(error) => Err(wasm.trap(&error)),
        }
    }

    /// Loads the state that another instance saved.
    pub(crate) async fn load(&mut self, state: &Snapshot) -> Result<Result<(), String>, Trap> {
        let Self::Wasm(wasm) = self else {
            return Ok(Err(NO_SNAPSHOT.to_owned()));
        };
        let Some(snapshot) = &wasm.exports.snapshot else {
            return Ok(Err(NO_SNAPSHOT.to_owned()));
        };
        let state = StateParam {
            schema: &state.schema,
            data: &state.data,
        };
        wasm.store.set_epoch_deadline(1);
        let loaded = snapshot.call_load(&mut wasm.store, state).await;
        loaded.map_err(|error| wasm.trap(&error))
    }
}

impl WasmGuest {
    async fn start(pre: &HandlerPre, state: InstanceState, permit: InstancePermit) -> Result<Self, String> {
        let app = state.app.clone();
        let mut store = Store::new(pre.engine(), state);
        store.limiter(|state| &mut state.memory);
        store.set_hostcall_fuel(hostcall_fuel(&app));
        store.epoch_deadline_callback(|store| {
            let call = &store.data().call;
            if Instant::now() >= call.deadline {
                return Err(wasmtime::Error::msg(format!(
                    "time limit of {:?} reached: do less in one event, or raise limits.time-ms of the [[app]]",
                    call.limit
                )));
            }
            store.data().yields.set();
            Ok(UpdateDeadline::YieldCustom(1, Box::pin(tokio::task::yield_now())))
        });
        store.set_epoch_deadline(1);
        let output = store.data().output.clone();
        let is_script = !app.script.is_empty();
        let trap = |error: &wasmtime::Error| Trap::new(error, output.stderr_tail(), is_script);
        let exports = pre.instantiate_async(&mut store).await;
        let exports = exports.map_err(|error| trap(&error).to_string())?;
        if let Some(lifecycle) = &exports.lifecycle {
            let config = &app.settings.handler.config;
            let config: Vec<_> = config.iter().map(|(key, value)| (&**key, &**value)).collect();
            match lifecycle.call_start(&mut store, &config).await {
                Ok(Ok(())) => {}
                Ok(Err(reason)) => return Err(format!("its start function refused: {reason}")),
                Err(error) => return Err(format!("its start function trapped: {}", trap(&error))),
            }
        }
        Ok(Self {
            store,
            exports,
            _permit: permit,
        })
    }

    fn trap(&self, error: &wasmtime::Error) -> Trap {
        let InstanceState { output, app, .. } = self.store.data();
        output.end();
        Trap::new(error, output.stderr_tail(), !app.script.is_empty())
    }
}

/// Bytes that a handler can pass to one host call, before anything is checked. wasmtime counts lists and headers as well, so
/// twice the largest payload or command is allowed.
fn hostcall_fuel(app: &App) -> usize {
    let limits = &app.settings.handler.limits;
    limits
        .bytes
        .max(limits.payload)
        .saturating_mul(2)
        .max(MIN_HOSTCALL_FUEL)
}
