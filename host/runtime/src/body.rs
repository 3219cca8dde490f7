//! What runs the code of an instance: a Store of wasmtime, or native Rust. All that an instance is beside
//! that, it is in either.

use std::time::{Duration, Instant};

use wasmtime::{Store, UpdateDeadline};

use super::bindings::exports::plugnode::app::snapshot::StateParam;
use super::bindings::plugnode::app::types as wit;
use super::engine::{Code, Place};
use super::exports::{Guest, HandlerPre};
use super::failure::Ruin;
use super::legacy::Snapshot;
use super::native::Worker;
use super::state::{Absence, App, State};

/// Bytes that a handler may give to one call of the host at least.
const LEAST_FUEL: usize = 1 << 20;

/// The one or the other. Calls end when they do: who makes them looks at the time.
pub(super) enum Body {
    Wasm(Box<Wasm>),
    Native(Worker),
}

/// An instance of a component.
pub(super) struct Wasm {
    store: Store<State>,
    guest: Guest,
    _place: Place,
}

impl Body {
    /// Makes one around this state, in which a call has begun, and has it start. An error says why it does not.
    pub(super) async fn start(code: &Code, state: State, place: Place) -> Result<Self, String> {
        match code {
            Code::Wasm(pre) => Ok(Self::Wasm(Box::new(Wasm::start(pre, state, place).await?))),
            Code::Native(native) => Ok(Self::Native(Worker::start(native, state, place).await?)),
        }
    }

    /// What is known of the present call.
    pub(super) fn state(&mut self) -> &mut State {
        match self {
            Self::Wasm(wasm) => wasm.store.data_mut(),
            Self::Native(worker) => worker.state(),
        }
    }

    /// What the host could not give the present call, as far as that is known.
    pub(super) fn absence(&self) -> Option<Absence> {
        match self {
            Self::Wasm(wasm) => wasm.store.data().call.absence.clone(),
            Self::Native(worker) => worker.absence(),
        }
    }

    /// Why a call is over that was not heard of until its time was.
    pub(super) fn too_late(&self, limit: Duration) -> String {
        match self {
            Self::Wasm(_) => format!("time limit of {limit:?} reached while it waited for the host"),
            Self::Native(worker) => worker.too_late(limit),
        }
    }

    /// Whether it is to be told of its end.
    pub(super) fn has_lifecycle(&self) -> bool {
        match self {
            Self::Wasm(wasm) => wasm.guest.lifecycle.is_some(),
            Self::Native(_) => true,
        }
    }

    /// Whether it can hand over what it has in memory.
    pub(super) fn has_snapshot(&self) -> bool {
        match self {
            Self::Wasm(wasm) => wasm.guest.snapshot.is_some(),
            Self::Native(_) => false,
        }
    }

    /// Has it handle an event.
    pub(super) async fn handle(
        &mut self,
        event: wit::Event<'_>,
        context: wit::Context<'_>,
    ) -> Result<Result<(), wit::HandlerError>, Ruin> {
        match self {
            Self::Wasm(wasm) => {
                wasm.store.set_epoch_deadline(1);
                let handled = wasm.guest.handler.call_handle(&mut wasm.store, event, context).await;
                handled.map_err(|error| wasm.ruin(&error))
            }
            Self::Native(worker) => worker.handle(event, context).await,
        }
    }

    /// Has it end.
    pub(super) async fn stop(&mut self) -> Result<(), Ruin> {
        match self {
            Self::Wasm(wasm) => {
                let Some(lifecycle) = &wasm.guest.lifecycle else {
                    return Ok(());
                };
                wasm.store.set_epoch_deadline(1);
                let stopped = lifecycle.call_stop(&mut wasm.store).await;
                stopped.map_err(|error| wasm.ruin(&error))
            }
            Self::Native(worker) => worker.stop().await,
        }
    }

    /// Has it save what it has in memory, where it can. What is somewhat larger than `most` is still given, and what is far
    /// larger not even taken in.
    pub(super) async fn save(&mut self, most: usize) -> Result<Result<Snapshot, String>, Ruin> {
        let Self::Wasm(wasm) = self else {
            return Ok(Err(NO_SNAPSHOT.to_owned()));
        };
        let Some(snapshot) = &wasm.guest.snapshot else {
            return Ok(Err(NO_SNAPSHOT.to_owned()));
        };
        wasm.store.set_hostcall_fuel(most.saturating_mul(2).max(LEAST_FUEL));
        wasm.store.set_epoch_deadline(1);
        match snapshot.call_save(&mut wasm.store).await {
            Ok(saved) => Ok(saved.map(|saved| Snapshot {
                schema: saved.schema,
                data: saved.data,
            })),
            Err(error) => Err(wasm.ruin(&error)),
        }
    }

    /// Gives it what another saved, where it can take that.
    pub(super) async fn load(&mut self, state: &Snapshot) -> Result<Result<(), String>, Ruin> {
        let Self::Wasm(wasm) = self else {
            return Ok(Err(NO_SNAPSHOT.to_owned()));
        };
        let Some(snapshot) = &wasm.guest.snapshot else {
            return Ok(Err(NO_SNAPSHOT.to_owned()));
        };
        let state = StateParam {
            schema: &state.schema,
            data: &state.data,
        };
        wasm.store.set_epoch_deadline(1);
        let loaded = snapshot.call_load(&mut wasm.store, state).await;
        loaded.map_err(|error| wasm.ruin(&error))
    }
}

const NO_SNAPSHOT: &str = "it carries no state";

impl Wasm {
    async fn start(pre: &HandlerPre, state: State, place: Place) -> Result<Self, String> {
        let app = state.app.clone();
        let mut store = Store::new(pre.engine(), state);
        store.limiter(|state| &mut state.memory);
        store.set_hostcall_fuel(hostcall_fuel(&app));
        store.epoch_deadline_callback(|store| {
            let call = &store.data().call;
            if Instant::now() >= call.deadline {
                return Err(wasmtime::Error::msg(format!("time limit of {:?} reached", call.limit)));
            }
            Ok(UpdateDeadline::YieldCustom(1, Box::pin(tokio::task::yield_now())))
        });
        store.set_epoch_deadline(1);
        let output = store.data().output.clone();
        let ruin = |error: &wasmtime::Error| Ruin::of(error, output.stderr_tail());
        let guest = pre.instantiate_async(&mut store).await;
        let guest = guest.map_err(|error| ruin(&error).to_string())?;
        if let Some(lifecycle) = &guest.lifecycle {
            let config = &app.settings.config;
            let config: Vec<_> = config.iter().map(|(key, value)| (&**key, &**value)).collect();
            match lifecycle.call_start(&mut store, &config).await {
                Ok(Ok(())) => {}
                Ok(Err(reason)) => return Err(format!("its start function refused: {reason}")),
                Err(error) => return Err(format!("its start function broke: {}", ruin(&error))),
            }
        }
        Ok(Self {
            store,
            guest,
            _place: place,
        })
    }

    fn ruin(&self, error: &wasmtime::Error) -> Ruin {
        let output = &self.store.data().output;
        output.end();
        Ruin::of(error, output.stderr_tail())
    }
}

/// How much a handler may give to one call of the host, before anything is checked.
fn hostcall_fuel(app: &App) -> usize {
    let limits = &app.settings.limits;
    // What arrives is counted with its lists and headers, so a payload at its limit is a little more than that.
    limits.bytes.max(limits.payload).saturating_mul(2).max(LEAST_FUEL)
}
