//! Where a native instance is called: on a thread of its own, or in place, by whoever calls it. To both a call is the same: a
//! part of the handler, run with the state of the instance. What the parts are is not known here.

use std::sync::Arc;
use std::time::Duration;

use plugnode_sdk::native::{Instance, within, words_of};

use super::host::Within;
use super::reads::Reads;
use super::thread::Thread;
use crate::engine::Place;
use crate::failure::Ruin;
use crate::state::State;

/// How the instances of a handler are made, which says where they can be called.
#[derive(Clone)]
pub(super) enum Make {
    OnThread(Arc<dyn Fn() -> Box<dyn Instance> + Send + Sync>),
    InPlace(Arc<dyn Fn() -> Box<dyn Instance + Send> + Send + Sync>),
}

/// The seat of one instance.
pub(super) enum Seat {
    OnThread(Thread),
    InPlace {
        handler: Seated<dyn Instance + Send>,
        _place: Place,
    },
}

/// A handler, which its first call makes: what goes wrong with that is as what goes wrong in the call.
pub(super) struct Seated<I: ?Sized> {
    make: Arc<dyn Fn() -> Box<I> + Send + Sync>,
    made: Option<Box<I>>,
}

/// What a call has led to, or the words of its panic, and the state that it was lent.
pub(super) type Called<T> = (Result<T, String>, Box<State>);

impl Seat {
    /// For the instance of this number. An error says why there is none.
    pub(super) fn new(make: &Make, number: u32, place: Place) -> Result<Self, String> {
        match make {
            Make::OnThread(make) => Ok(Self::OnThread(Thread::start(make.clone(), number, place)?)),
            Make::InPlace(make) => Ok(Self::InPlace {
                handler: Seated::new(make.clone()),
                _place: place,
            }),
        }
    }

    /// Runs a part of the handler. In place it has run when this is first polled.
    pub(super) async fn call<T: Send + 'static>(
        &mut self,
        state: Box<State>,
        part: impl FnOnce(&mut dyn Instance) -> T + Send + 'static,
    ) -> Result<Called<T>, Ruin> {
        match self {
            Self::OnThread(thread) => thread.call(state, part).await,
            Self::InPlace { handler, .. } => Ok(call(state, Reads::InPlace, || part(handler.get()))),
        }
    }

    /// Why a call does not count that has taken longer than this.
    pub(super) fn too_late(&self, limit: Duration) -> String {
        let why = match self {
            Self::OnThread(_) => "its thread cannot be stopped, and ends when it returns",
            Self::InPlace { .. } => {
                "it was called in place, where others wait for it: give it a thread, by `Native::of`"
            }
        };
        format!("time limit of {limit:?} reached; {why}")
    }
}

impl<I: ?Sized> Seated<I> {
    pub(super) fn new(make: Arc<dyn Fn() -> Box<I> + Send + Sync>) -> Self {
        Self { make, made: None }
    }

    pub(super) fn get(&mut self) -> &mut I {
        self.made.get_or_insert_with(|| (self.make)())
    }
}

/// Runs a part of a handler on this thread, with the state.
pub(super) fn call<T>(state: Box<State>, reads: Reads, part: impl FnOnce() -> T) -> Called<T> {
    let (result, within) = within(Within { state, reads }, part);
    (result.map_err(|panic| words_of(&*panic).to_owned()), within.state)
}
