//! An app's instances on this node, each at a place of its own (see `place`). Places share a queue and nothing else, so
//! one that is slow, broken or being replaced holds up nobody but the client it serves.
//!
//! A pool can be made ahead of its time and wait until another hands its work over. That goes place by place: each of
//! the heir's begins when the one of the same number has ended its event and given what it had in memory.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};
use tokio_util::sync::CancellationToken;

use super::engine::{Component, Engine, Room};
use super::failure::Failure;
use super::instance::Instance;
use super::job::{Handled, Job};
use super::legacy::{Estate, Legacy};
use super::load_error::LoadError;
use super::place::Place;
use super::queue::Queue;
use super::seen;
use super::settings::AppSettings;
use super::state::App;
use plugnode_message::{Effects, Namespace, SessionId};
use plugnode_process::shutdown::Shutdown;

/// The instances of one component for one app. Dropping it retires it.
pub struct Pool {
    shared: Arc<Shared>,
}

/// What the places and the pool have in common.
pub(super) struct Shared {
    pub(super) app: Arc<App>,
    pub(super) component: Component,
    pub(super) room: Room,
    queue: Mutex<Queue>,
    /// Wakes one place each.
    pub(super) wake: Vec<Notify>,
    /// What is left to each place and by it.
    pub(super) estates: Vec<Estate>,
    /// Whether every place has begun.
    begun: CancellationToken,
    /// Why some places did not get what was in memory before them.
    refused: Mutex<Vec<String>>,
}

impl Pool {
    /// Makes all instances and begins. A component that cannot start is refused here.
    pub async fn start(
        engine: &Engine,
        component: Component,
        settings: AppSettings,
        shutdown: &Shutdown,
    ) -> Result<Arc<Self>, LoadError> {
        Self::make(engine, component, settings, shutdown, false).await
    }

    /// Makes all instances, which then wait: what is submitted is not handled before another pool has handed its work
    /// over to this one. A component that cannot start is refused here.
    pub async fn prepare(
        engine: &Engine,
        component: Component,
        settings: AppSettings,
        shutdown: &Shutdown,
    ) -> Result<Arc<Self>, LoadError> {
        Self::make(engine, component, settings, shutdown, true).await
    }

    async fn make(
        engine: &Engine,
        component: Component,
        settings: AppSettings,
        shutdown: &Shutdown,
        waits: bool,
    ) -> Result<Arc<Self>, LoadError> {
        let wanted = settings.instances;
        if wanted == 0 || wanted > seen::MOST {
            return Err(LoadError::Instances {
                wanted,
                most: seen::MOST,
            });
        }
        let app = Arc::new(App {
            config: settings
                .config
                .iter()
                .map(|(key, value)| (key.clone(), value.clone()))
                .collect(),
            release: component.release().into(),
            digest: component.digest().as_str().to_owned(),
            script: component.script().clone(),
            settings,
        });
        let room = engine.room();
        let mut instances = Vec::with_capacity(wanted);
        for number in 0..wanted {
            instances.push(Instance::start(&component, &app, number as u32, &room).await?);
        }
        let (begin, begins): (Vec<_>, Vec<_>) = (0..wanted)
            .map(|_| waits.then(oneshot::channel::<Legacy>).unzip())
            .unzip();
        let shared = Arc::new(Shared {
            queue: Mutex::new(Queue::new(app.settings.dispatch, wanted, !waits)),
            wake: (0..wanted).map(|_| Notify::new()).collect(),
            estates: begin.into_iter().map(Estate::new).collect(),
            begun: CancellationToken::new(),
            refused: Mutex::default(),
            app,
            component,
            room,
        });
        if !waits {
            shared.begun.cancel();
        }
        for (number, (instance, begins)) in instances.into_iter().zip(begins).enumerate() {
            shutdown.spawn(Place::new(shared.clone(), number).live(instance, begins));
        }
        Ok(Arc::new(Self { shared }))
    }

    /// Has an event handled, and never blocks. The caller sees to it that a client's next event comes only after the
    /// outcome of the one before, and bounds how many there are in all. A pool that is retired asks for another attempt.
    pub fn submit(&self, job: Job) {
        let submitted = self.shared.queue().submit(job);
        match submitted {
            Ok(Some(instance)) => self.shared.wake[instance].notify_one(),
            Ok(None) => {}
            Err(job) => {
                let reason = "this pool is retired, another has taken its place".to_owned();
                self.shared.finish(&job, Err(Failure::Retry(reason)), Duration::ZERO);
            }
        }
    }

    /// Has an event handled if an instance is idle, and gives it back otherwise.
    pub fn submit_if_idle(&self, job: Job) -> Result<(), Job> {
        let instance = self.shared.queue().submit_if_idle(job)?;
        if let Some(instance) = instance {
            self.shared.wake[instance].notify_one();
        }
        Ok(())
    }

    /// Takes no more events and gives back those that have not begun, each client's in their order. Instances end after
    /// the event that they have in hand, whose outcome still comes.
    pub fn retire(&self) -> Vec<Job> {
        let jobs = self.shared.queue().retire();
        self.shared.wake.iter().for_each(Notify::notify_one);
        // Places that have waited in vain.
        self.shared.estates.iter().for_each(|estate| drop(estate.take_begin()));
        jobs
    }

    /// Retires this pool in favour of one that was prepared, and gives back the events that have not begun, each client's
    /// in their order: they are to be submitted to the heir. Each of its places begins at once or, where both components
    /// carry state, when the place of the same number here has ended its event and saved what it had in memory.
    pub fn hand_over(&self, heir: &Pool) -> Vec<Job> {
        let carries = self.carries_state() && heir.carries_state();
        for (number, estate) in heir.shared.estates.iter().enumerate() {
            let Some(begin) = estate.take_begin() else {
                if carries {
                    heir.shared.refuse(number, "load: it had begun before");
                }
                continue;
            };
            match self.shared.estates.get(number).filter(|_| carries) {
                Some(own) => own.set_heir(begin),
                // It may have been retired meanwhile, and then does not want to know.
                None => drop(begin.send(Legacy::Nothing)),
            }
        }
        self.retire()
    }

    /// Completes when every place has begun: from then on no more states are refused.
    pub async fn begun(&self) {
        self.shared.begun.cancelled().await;
    }

    /// Whether that is so by now.
    pub fn have_begun(&self) -> bool {
        self.shared.begun.is_cancelled()
    }

    /// Why instances of this pool began with nothing although those before them had something in memory, such as
    /// `instance 2: load: …`. One for each such instance that has begun so far.
    pub fn states_refused(&self) -> Vec<String> {
        self.shared.refused().clone()
    }

    /// Forgets a client, whose disconnect has been committed.
    pub fn forget(&self, namespace: &Namespace, client: &SessionId) {
        self.shared.queue().forget(&(namespace.clone(), client.clone()));
    }

    /// How many events have not begun.
    pub fn backlog(&self) -> usize {
        self.shared.queue().backlog()
    }

    fn carries_state(&self) -> bool {
        self.shared.component.carries_state()
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.retire();
    }
}

impl Shared {
    pub(super) fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place begins, and will not ask for what was before it any more.
    pub(super) fn begin(&self, number: usize, seen: Vec<seen::Key>) {
        if self.queue().begin(number, seen) {
            self.begun.cancel();
        }
    }

    /// A place begins with nothing, although there was something.
    pub(super) fn refuse(&self, number: usize, reason: &str) {
        let app = &self.app.settings.namespace;
        tracing::warn!(%app, release = &*self.app.release, instance = number, "state is not carried over: {reason}");
        self.refused().push(format!("instance {number}: {reason}"));
    }

    fn refused(&self) -> MutexGuard<'_, Vec<String>> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn finish(&self, job: &Job, result: Result<Effects, Failure>, took: Duration) {
        // Whoever does not listen any more does not want to know.
        let _ = job.done.try_send(Handled {
            id: job.id,
            result,
            release: self.app.release.clone(),
            on_trial: job.on_trial,
            took,
        });
    }
}
