//! Webhooks: tells other programs of events by HTTP, at least once each.
//!
//! - `payload` is the JSON of an event. The commit of the event stores the delivery ([`WebhookDelivery`]), so that both happen or neither.
//! - Each delivery comes back as an event of its partition once it is due. `receiver` sends it, signed by `signature`. Its effects are
//!   none if it has arrived, else the same delivery for later.
//! - A slow receiver delays neither other receivers nor other events: what finds no room to wait for it is put off.

mod payload;
mod receiver;
mod settings;
mod signature;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use self::receiver::Receiver;
pub use self::settings::{WebhookEvent, WebhookSettings};
pub use self::signature::{InvalidSecret, SigningSecret};
use plugnode_message::{Effects, Event, EventId, KeyChange, Namespace, WebhookDelivery, due_in, now_ms};
use plugnode_process::log_limiter;
use plugnode_process::{jittered, metrics};
use plugnode_runtime::{Job, JobOutcome};
use plugnode_transport::Verdict;

/// The pause after the first failed attempt. It doubles with each further one,
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// up to this.
const LONGEST_PAUSE: Duration = Duration::from_secs(3_600);
/// The longest pause of a delivery that was put off without an attempt.
const LONGEST_PUT_OFF: Duration = Duration::from_secs(300);
/// What stands for the release in the outcome of a delivery.
const RELEASE: &str = "webhook";

/// The webhooks of an app-node.
#[derive(Default, PartialEq)]
pub struct Webhooks(HashMap<String, Arc<Webhook>>);

struct Webhook {
    settings: WebhookSettings,
    /// The content of the file with the certificates to trust.
    ca: Option<Vec<u8>>,
    receiver: Receiver,
}

impl Webhooks {
    /// Webhooks with these settings. Connects to nothing.
    ///
    /// # Errors
    /// If a URL or a file cannot be used.
    pub fn new(settings: impl IntoIterator<Item = WebhookSettings>) -> Result<Self> {
        let webhook = |settings: WebhookSettings| {
            let webhook = Webhook::new(settings.clone()).with_context(|| format!("webhook {:?}", settings.name))?;
            anyhow::Ok((settings.name, Arc::new(webhook)))
        };
        Ok(Self(settings.into_iter().map(webhook).collect::<Result<_>>()?))
    }

    /// The deliveries of an event with this verdict, as writes.
    pub(super) fn deliveries(
        &self,
        id: EventId,
        event: &Event,
        app: Option<&Namespace>,
        verdict: &Verdict,
    ) -> Vec<KeyChange> {
        let mut writes = Vec::new();
        if self.0.is_empty() || WebhookDelivery::is(&event.kind) {
            return writes;
        }
        for topic in payload::topics_of(event, verdict) {
            let selected = self
                .0
                .values()
                .filter(|webhook| webhook.settings.selects(&topic, event, app));
            for webhook in selected {
                let delivery = WebhookDelivery {
                    webhook: webhook.settings.name.as_str().into(),
                    id: payload::id(&topic, id, event).into(),
                    body: payload::body(&topic, id, event, verdict),
                    made_at_ms: now_ms(),
                    failures: 0,
                    put_off: 0,
                };
                writes.push(delivery.set(&event.namespace, id.partition, now_ms()));
            }
        }
        writes
    }

    /// Sends the delivery of this job, whose outcome says what follows. When `stopping` is cancelled, it is left to the next owner.
    pub(super) fn deliver(&self, job: Job, stopping: &CancellationToken) {
        let Some(delivery) = WebhookDelivery::of(&job.event.kind) else {
            metrics::WEBHOOKS_UNKNOWN.increment();
            warn!(messaging.message.id = %job.id, "delivery of a webhook dropped: this node cannot read it");
            return finish(job, Effects::default(), Duration::ZERO);
        };
        let Some(webhook) = self.0.get(&*delivery.webhook).cloned() else {
            metrics::WEBHOOKS_UNKNOWN.increment();
            if log_limiter::allows(&job.event.namespace, "unknown webhook") {
                warn!(webhook = %delivery.webhook, id = %delivery.id, "delivery dropped: there is no webhook of this name on this app-node");
            }
            return finish(job, Effects::default(), Duration::ZERO);
        };
        let Some(place) = webhook.receiver.place_to_wait() else {
            let effects = put_off(&job, delivery);
            return finish(job, effects, Duration::ZERO);
        };
        let stopping = stopping.clone();
        tokio::spawn(async move {
            let began = Instant::now();
            let effects = tokio::select! {
                effects = webhook.send(&job, &delivery) => effects,
                () = stopping.cancelled() => again(&job, &delivery, 0),
            };
            drop(place);
            finish(job, effects, began.elapsed());
        });
    }
}

impl PartialEq for Webhook {
    fn eq(&self, other: &Self) -> bool {
        (&self.settings, &self.ca) == (&other.settings, &other.ca)
    }
}

impl Webhook {
    fn new(settings: WebhookSettings) -> Result<Self> {
        let receiver = Receiver::new(&settings)?;
        let ca = settings.ca.as_ref().map(std::fs::read).transpose().context("ca")?;
        Ok(Self { settings, ca, receiver })
    }

    /// Sends a delivery, and returns what follows.
    async fn send(&self, job: &Job, delivery: &WebhookDelivery) -> Effects {
        let Self { settings, receiver, .. } = self;
        let Err(error) = receiver.post(delivery).await else {
            metrics::WEBHOOKS_DELIVERED.increment();
            debug!(webhook = settings.name, id = %delivery.id, "delivered");
            return Effects::default();
        };
        metrics::WEBHOOK_ATTEMPTS_FAILED.increment();
        let failures = delivery.failures.saturating_add(1);
        let age = Duration::from_millis(now_ms().saturating_sub(delivery.made_at_ms));
        let is_last = failures >= settings.attempts || age >= settings.give_up_after;
        if log_limiter::allows(&job.event.namespace, "webhook failed") {
            let (webhook, id) = (&settings.name, &delivery.id);
            warn!(webhook, %id, failures, given_up = is_last, error = %format!("{error:#}"), "webhook not delivered");
        }
        if is_last {
            metrics::WEBHOOKS_GIVEN_UP.increment();
            return Effects::default();
        }
        let later = WebhookDelivery {
            failures,
            put_off: 0,
            ..delivery.clone()
        };
        let pause = FIRST_PAUSE
            .saturating_mul(1 << (failures - 1).min(16))
            .min(LONGEST_PAUSE);
        again(job, &later, jittered(pause).as_millis() as u64)
    }
}

/// The effects of a delivery that is not attempted now, because too many wait.
fn put_off(job: &Job, delivery: WebhookDelivery) -> Effects {
    let pause = FIRST_PAUSE
        .saturating_mul(1 << delivery.put_off.min(16))
        .min(LONGEST_PUT_OFF);
    let later = WebhookDelivery {
        put_off: delivery.put_off.saturating_add(1),
        ..delivery
    };
    again(job, &later, jittered(pause).as_millis() as u64)
}

fn again(job: &Job, delivery: &WebhookDelivery, after_ms: u64) -> Effects {
    Effects {
        writes: vec![delivery.set(&job.event.namespace, job.id.partition, due_in(after_ms))],
        ..Effects::default()
    }
}

fn finish(job: Job, effects: Effects, took: Duration) {
    let outcome = JobOutcome {
        id: job.id,
        result: Ok(effects),
        release: RELEASE.into(),
        on_trial: None,
        took,
    };
    // The channel has room for each running event. It is closed when the lease has ended: then the next owner has the event.
    let _ = job.done.try_send(outcome);
}
