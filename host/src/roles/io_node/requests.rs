//! What a client was asked and has not answered.
//!
//! socketioxide gives an answer to whoever waits for it, in a task of its own, and so what the client sends next could
//! overtake it. Whoever takes a client's next event in looks here first: an answer that came before it is taken in
//! before it.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use futures_util::Stream;
use socketioxide_core::Value;

use super::door::Answers;

/// The open requests of one client.
#[derive(Default)]
pub(super) struct Requests {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    open: Vec<Open>,
    /// Whether a task waits for answers, or is about to,
    awaited: bool,
    /// and what wakes it.
    waiting: Option<Waker>,
}

struct Open {
    token: Bytes,
    answers: Pin<Box<Answers>>,
}

/// What came of a request: its token, and the answer unless there was none in time.
pub(super) type Answered = (Bytes, Option<Value>);

impl Requests {
    /// Adds a request. True when nobody waits for answers yet: then the caller sees to it that somebody does.
    pub(super) fn add(&self, token: Bytes, answers: Answers) -> bool {
        let mut state = self.state();
        let answers = Box::pin(answers);
        state.open.push(Open { token, answers });
        state.wake();
        !std::mem::replace(&mut state.awaited, true)
    }

    /// Gives what was answered so far to `take`, in the order of the requests.
    pub(super) fn settle(&self, take: impl FnMut(Answered)) {
        let mut state = self.state();
        if state.open.is_empty() {
            return;
        }
        // Where nobody waits yet, whoever is about to will look for itself.
        let waiting = state.waiting.clone();
        state.settle(waiting.as_ref().unwrap_or(Waker::noop()), take);
        if state.open.is_empty() {
            state.wake();
        }
    }

    /// Gives each answer to `take` until none is open.
    pub(super) async fn wait(&self, mut take: impl FnMut(Answered)) {
        poll_fn(|cx| {
            let mut state = self.state();
            state.settle(cx.waker(), &mut take);
            if state.open.is_empty() {
                state.awaited = false;
                return Poll::Ready(());
            }
            state.waiting = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics while it holds this lock")
    }
}

impl State {
    fn wake(&mut self) {
        self.waiting.take().into_iter().for_each(Waker::wake);
    }

    fn settle(&mut self, waker: &Waker, mut take: impl FnMut(Answered)) {
        let mut cx = Context::from_waker(waker);
        self.open
            .retain_mut(|open| match open.answers.as_mut().poll_next(&mut cx) {
                Poll::Ready(answer) => {
                    take((open.token.clone(), answer.and_then(|(_, answer)| answer.ok())));
                    false
                }
                Poll::Pending => true,
            });
    }
}
