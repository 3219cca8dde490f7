//! An app's instances on this node. Each is a task that owns its instance and asks the pool's queue for the next event;
//! they share nothing else, so one that is slow, broken or being replaced holds up nobody but the client it serves.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use super::engine::{Component, Engine, Room};
use super::failure::Failure;
use super::instance::Instance;
use super::job::{Handled, Job};
use super::load_error::LoadError;
use super::queue::{Next, Queue};
use super::seen;
use super::settings::AppSettings;
use super::state::App;
use crate::message::{Effects, Namespace, SessionId};
use crate::shutdown::Shutdown;

/// How long to wait before the second attempt at making an instance; each wait after it is twice as long,
const FIRST_WAIT: Duration = Duration::from_millis(10);
/// up to this.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// The instances of one component for one app. Dropping it retires it.
pub struct Pool {
    shared: Arc<Shared>,
}

/// What the instances' tasks and the pool have in common.
struct Shared {
    app: Arc<App>,
    component: Component,
    room: Room,
    queue: Mutex<Queue>,
    /// Wakes one instance each.
    wake: Vec<Notify>,
}

impl Pool {
    /// Makes all instances and begins. A component that cannot start is refused here.
    pub async fn start(
        engine: &Engine,
        component: Component,
        settings: AppSettings,
        shutdown: &Shutdown,
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
            release: component.release().to_owned(),
            digest: component.digest().as_str().to_owned(),
            settings,
        });
        let room = engine.room();
        let mut instances = Vec::with_capacity(wanted);
        for number in 0..wanted {
            instances.push(Instance::start(&component, &app, number as u32, &room).await?);
        }
        let shared = Arc::new(Shared {
            queue: Mutex::new(Queue::new(app.settings.dispatch, wanted)),
            wake: (0..wanted).map(|_| Notify::new()).collect(),
            app,
            component,
            room,
        });
        for (number, instance) in instances.into_iter().enumerate() {
            shutdown.spawn(run(shared.clone(), number, instance));
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
                finish(&job, Err(Failure::Retry(reason)));
            }
        }
    }

    /// Takes no more events and gives back those that have not begun, each client's in their order. Instances end after
    /// the event that they have in hand, whose outcome still comes.
    pub fn retire(&self) -> Vec<Job> {
        let jobs = self.shared.queue().retire();
        self.shared.wake.iter().for_each(Notify::notify_one);
        jobs
    }

    /// Forgets a client, whose disconnect has been committed.
    pub fn forget(&self, namespace: &Namespace, client: &SessionId) {
        self.shared.queue().forget(&(namespace.clone(), client.clone()));
    }

    /// The release of the component that runs here.
    pub fn release(&self) -> &str {
        self.shared.component.release()
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.retire();
    }
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The life of one place in the pool: an instance, and after it broke the next.
async fn run(shared: Arc<Shared>, number: usize, mut instance: Instance) {
    let mut next = shared.queue().next(number);
    loop {
        let (job, introduce) = match next {
            Next::Handle(job, introduce) => (job, introduce),
            Next::Wait => {
                shared.wake[number].notified().await;
                next = shared.queue().next(number);
                continue;
            }
            Next::End => return,
        };
        if job.done.is_closed() {
            drop(job);
            next = shared.queue().next(number);
            continue;
        }
        let (result, kept) = instance.handle(&job, introduce).await;
        // What becomes of this instance is settled before the outcome is known: whoever sends again on hearing it finds
        // the instance idle and the client remembered, and a client is never forgotten first and remembered then.
        match kept {
            Some(kept) => {
                next = {
                    let mut queue = shared.queue();
                    if result.is_ok() {
                        queue.saw(number, &job.event);
                    }
                    queue.next(number)
                };
                finish(&job, result);
                instance = kept;
            }
            None => {
                shared.queue().replaced(number);
                finish(&job, result);
                drop(job);
                let Some(fresh) = replace(&shared, number).await else {
                    return;
                };
                instance = fresh;
                next = shared.queue().next(number);
            }
        }
        // Events that come one after the other would otherwise keep this task on its thread for ever.
        tokio::task::consume_budget().await;
    }
}

/// Makes an instance, however often it takes. None when the pool was retired meanwhile.
async fn replace(shared: &Shared, number: usize) -> Option<Instance> {
    let mut wait = FIRST_WAIT;
    loop {
        let error = match Instance::start(&shared.component, &shared.app, number as u32, &shared.room).await {
            Ok(instance) => return Some(instance),
            Err(error) => error,
        };
        tracing::warn!(app = %shared.app.settings.namespace, instance = number, %error, "cannot make a fresh instance");
        // A wake-up while there is no instance can only be the pool's retirement.
        let _ = tokio::time::timeout(wait, shared.wake[number].notified()).await;
        if shared.queue().is_retired() {
            return None;
        }
        wait = (wait * 2).min(LONGEST_WAIT);
    }
}

fn finish(job: &Job, result: Result<Effects, Failure>) {
    // Whoever does not listen any more does not want to know.
    let _ = job.done.try_send(Handled { id: job.id, result });
}
