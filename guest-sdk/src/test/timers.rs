//! The timers of a kit. Knows neither clients nor instances: the kit delivers the events.

use std::collections::BTreeMap;

use super::effects::Command;
use crate::bindings::plugnode::app::schedule::Owner;
use crate::schedule::Due;

/// The timers that are set.
#[derive(Debug, Default)]
pub(super) struct Timers {
    by_owner: BTreeMap<Id, Timer>,
}

/// The owner, which is a client's id or none for the app, and the key.
type Id = (Option<String>, String);

#[derive(Debug)]
struct Timer {
    due_ms: u64,
    /// None if the timer is one-shot.
    period_ms: Option<u64>,
    kind: String,
    data: Vec<u8>,
}

/// The content of a timer's event.
#[derive(Debug)]
pub(super) struct Fired {
    pub(super) kind: String,
    pub(super) data: Vec<u8>,
    /// The additional entries of the event's context.
    pub(super) extra: Vec<(String, String)>,
}

impl Timers {
    /// Carries out one command. `client` is the event's client if it is connected; timers of any other client are not set.
    pub(super) fn apply(&mut self, command: &Command, client: Option<&str>, now_ms: u64) {
        let (owner, key, timer) = match command {
            Command::At {
                owner,
                key,
                time_ms,
                kind,
                data,
            } => (owner, key, Some((*time_ms, None, kind, data))),
            Command::Every {
                owner,
                key,
                period_ms,
                kind,
                data,
            } => {
                let due_ms = now_ms.saturating_add(*period_ms);
                (owner, key, Some((due_ms, Some((*period_ms).max(1)), kind, data)))
            }
            Command::Cancel { owner, key } => (owner, key, None),
            _ => return,
        };
        let owner = match (owner, client) {
            (Owner::App, _) => None,
            (Owner::Client, Some(client)) => Some(client.to_owned()),
            (Owner::Client, None) => return,
        };
        let id = (owner, key.clone());
        match timer {
            Some((due_ms, period_ms, kind, data)) => {
                let (kind, data) = (kind.clone(), data.clone());
                let timer = Timer {
                    due_ms,
                    period_ms,
                    kind,
                    data,
                };
                self.by_owner.insert(id, timer);
            }
            None => drop(self.by_owner.remove(&id)),
        }
    }

    /// Fires a timer, also before it is due. A one-shot timer is removed. Missed periods become one event, as on the real host.
    #[track_caller]
    pub(super) fn fire(&mut self, owner: Option<&str>, key: &str, now_ms: u64) -> Fired {
        let id = (owner.map(str::to_owned), key.to_owned());
        let Some(timer) = self.by_owner.remove(&id) else {
            let owner_name = owner.map_or("the app".to_owned(), |client| format!("client `{client}`"));
            let keys = self.keys(owner).join("`, `");
            panic!("{owner_name} has no timer `{key}`: its timers are `{keys}`");
        };
        let missed = timer
            .period_ms
            .map_or(0, |period_ms| now_ms.saturating_sub(timer.due_ms) / period_ms);
        let fired = Fired {
            kind: timer.kind.clone(),
            data: timer.data.clone(),
            extra: Due::write(key, timer.due_ms, missed),
        };
        if let Some(period_ms) = timer.period_ms {
            let due_ms = timer.due_ms.saturating_add((missed + 1).saturating_mul(period_ms));
            self.by_owner.insert(id, Timer { due_ms, ..timer });
        }
        fired
    }

    /// The keys of an owner's timers, sorted.
    pub(super) fn keys(&self, owner: Option<&str>) -> Vec<&str> {
        let mut keys = Vec::new();
        for (of, key) in self.by_owner.keys() {
            if of.as_deref() == owner {
                keys.push(key.as_str());
            }
        }
        keys
    }

    /// Removes the timers of a client.
    pub(super) fn remove_client(&mut self, client: &str) {
        self.by_owner.retain(|(owner, _), _| owner.as_deref() != Some(client));
    }
}
