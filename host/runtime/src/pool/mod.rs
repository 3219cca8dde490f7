//! A pool: the instances of one app on this node, each in a slot of its own. Slots share a job queue and nothing else, so a
//! slow, trapped or replaced instance delays only the client that it serves.
//!
//! A pool can be prepared ahead of time and then take over from another one. The hand-off goes slot by slot: each slot of the
//! successor starts when the slot with the same number in the predecessor has finished its event and saved its state.

mod extra;
mod handoff;
#[cfg(test)]
mod handoff_tests;
pub(crate) mod queue;
mod seen_clients;
mod shared;
mod slot;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use self::handoff::{Handoff, SlotHandoff};
use self::queue::JobQueue;
use self::seen_clients::MAX_INSTANCES;
use self::shared::PoolShared;
use self::slot::Slot;
use crate::app::App;
use crate::component::Component;
use crate::engine::Engine;
use crate::failure::Failure;
use crate::instance::Instance;
use crate::job::Job;
use crate::load_error::LoadError;
use crate::settings::AppSettings;
use plugnode_message::{Namespace, SessionId};
use plugnode_process::shutdown::Shutdown;

/// The instances of one component for one app. Dropping it retires it.
pub struct Pool {
    shared: Arc<PoolShared>,
}

impl Pool {
    /// Makes all instances and starts to handle jobs.
    ///
    /// # Errors
    /// When the component does not start, or there are too many instances.
    pub async fn start(
        engine: &Engine,
        component: Component,
        settings: AppSettings,
        shutdown: &Shutdown,
    ) -> Result<Arc<Self>, LoadError> {
        Self::new(engine, component, settings, shutdown, false).await
    }

    /// Makes all instances, which then wait: jobs are queued until another pool [hands over](Self::hand_over) to this one.
    ///
    /// # Errors
    /// When the component does not start, or there are too many instances.
    pub async fn prepare(
        engine: &Engine,
        component: Component,
        settings: AppSettings,
        shutdown: &Shutdown,
    ) -> Result<Arc<Self>, LoadError> {
        Self::new(engine, component, settings, shutdown, true).await
    }

    async fn new(
        engine: &Engine,
        component: Component,
        settings: AppSettings,
        shutdown: &Shutdown,
        waits_for_handoff: bool,
    ) -> Result<Arc<Self>, LoadError> {
        let wanted = settings.handler.instances;
        if wanted == 0 || wanted > MAX_INSTANCES {
            return Err(LoadError::Instances {
                wanted,
                max: MAX_INSTANCES,
            });
        }
        let app = Arc::new(App {
            config: settings
                .handler
                .config
                .iter()
                .map(|(key, value)| (key.clone(), value.clone()))
                .collect(),
            release: component.release().into(),
            digest: component.digest().as_str().to_owned(),
            script: component.script().clone(),
            settings,
        });
        let limit = engine.instance_limit().clone();
        let mut instances = Vec::with_capacity(wanted);
        for number in 0..wanted {
            instances.push(Instance::start(&component, &app, number as u32, &limit).await?);
        }
        let (starters, starts): (Vec<_>, Vec<_>) = (0..wanted)
            .map(|_| waits_for_handoff.then(oneshot::channel::<Handoff>).unzip())
            .unzip();
        // Extra instances end without handing their state over.
        let extras = match component.carries_state() {
            true => 0,
            false => app.settings.handler.max_instances().saturating_sub(wanted),
        };
        let queue = JobQueue::new(app.settings.handler.dispatch, wanted, extras, !waits_for_handoff);
        let handoffs = starters.into_iter().map(SlotHandoff::new).collect();
        let shared = Arc::new(PoolShared::new(
            app,
            component,
            limit,
            queue,
            handoffs,
            shutdown.clone(),
        ));
        if !waits_for_handoff {
            shared.set_started();
        }
        for (number, (instance, start)) in instances.into_iter().zip(starts).enumerate() {
            shutdown.spawn(Slot::new(shared.clone(), number).run(instance, start));
        }
        Ok(Arc::new(Self { shared }))
    }

    /// Queues a job; never blocks. The caller submits a client's next event only after the outcome of the previous one, and
    /// bounds the number of jobs. A retired pool answers with [`Failure::Retry`].
    pub fn submit(&self, job: Job) {
        let submitted = self.shared.queue().submit(job);
        match submitted {
            Ok(Some(instance)) => self.shared.wake[instance].notify_one(),
            Ok(None) => self.shared.job_queued(),
            Err(job) => {
                let reason = "this pool was replaced by another release".to_owned();
                self.shared.finish(&job, Err(Failure::Retry(reason)), Duration::ZERO);
            }
        }
    }

    /// Submits a job if an instance can start it at once; otherwise returns it.
    pub fn submit_if_idle(&self, job: Job) -> Result<(), Job> {
        let instance = self.shared.queue().submit_if_idle(job)?;
        if let Some(instance) = instance {
            self.shared.wake[instance].notify_one();
        }
        Ok(())
    }

    /// Stops taking jobs, and returns those that have not started, in each client's order. Instances finish their current
    /// event, whose outcome is still sent, and end.
    pub fn retire(&self) -> Vec<Job> {
        let jobs = self.shared.queue().retire();
        self.shared.wake.iter().for_each(tokio::sync::Notify::notify_one);
        self.shared.queued.notify_waiters();
        // Slots that still wait for a hand-off end when their sender is dropped.
        self.shared
            .handoffs
            .iter()
            .for_each(|handoff| drop(handoff.take_starter()));
        jobs
    }

    /// Retires this pool in favour of a prepared one, and returns the jobs that have not started, in each client's order;
    /// submit them to the successor. Each of its slots starts at once, or if both components carry state, when the slot with
    /// the same number here has finished its event and saved its state.
    pub fn hand_over(&self, successor: &Pool) -> Vec<Job> {
        let carries_state = self.carries_state() && successor.carries_state();
        for (number, handoff) in successor.shared.handoffs.iter().enumerate() {
            let Some(starter) = handoff.take_starter() else {
                if carries_state {
                    successor.shared.refuse_state(number, "load: it had already started");
                }
                continue;
            };
            match self.shared.handoffs.get(number).filter(|_| carries_state) {
                Some(own) => own.set_successor(starter),
                // The send fails if the successor was retired meanwhile.
                None => drop(starter.send(Handoff::Nothing)),
            }
        }
        self.retire()
    }

    /// Completes when every slot has started. No more states are refused from then on.
    pub async fn started(&self) {
        self.shared.started().await;
    }

    /// Whether every slot has started.
    pub fn is_started(&self) -> bool {
        self.shared.is_started()
    }

    /// Why instances that have started so far did so without the state of their predecessor, such as `instance 2: load: …`,
    /// one for each.
    pub fn states_refused(&self) -> Vec<String> {
        self.shared.states_refused()
    }

    /// Forgets a client, after its disconnect was committed.
    pub fn forget(&self, namespace: &Namespace, client: &SessionId) {
        self.shared.queue().forget(&(namespace.clone(), client.clone()));
    }

    /// Number of jobs that have not started.
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
