//! Counts the messages of each client in memory, and hands the counts to the next release: the example of a handler with state.
//!
//! Each event is answered with the number of events that this instance handled for the client, so use the app with
//! `dispatch = "sticky"`. [`Counter::on_message`] lists the events with another meaning. For tests, the `config` table can make
//! `start`, `save` and `load` fail: `refuse`, `panic` or `loop`.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use plugnode_sdk::prelude::*;
use plugnode_sdk::{config, context};

/// The format of the state that is handed over: the counts, as JSON.
const SCHEMA: &str = "counter/1";

/// The handler.
#[derive(Default)]
pub struct Counter {
    /// The number of messages of each client.
    counts: BTreeMap<String, u64>,
}

impl Handler for Counter {
    fn on_start(&mut self) -> Result {
        inject_fault("start")
    }

    fn on_connection(&mut self, client: &Client, _: &Handshake) -> Result {
        self.counts.insert(client.id().into(), 0);
        Ok(())
    }

    /// Another instance has the client's count, or it was lost: starts at 0.
    fn on_no_client(&mut self, client: &Client) -> Result {
        self.counts.insert(client.id().into(), 0);
        client.emit("anew", context().instance)?;
        Ok(())
    }

    fn on_message(&mut self, client: &Client, message: &Incoming) -> Result {
        let count = self.counts.entry(client.id().into()).or_default();
        *count += 1;
        match message.event.as_str() {
            // (ms): keeps the CPU busy for this time, then answers like any other event.
            "slow" => busy_wait(Duration::from_millis(message.arg(0)?)),
            "panic" => panic!("asked to panic"),
            _ => {}
        }
        client.emit("count", *count)?;
        message.ack(*count)?;
        Ok(())
    }

    fn on_disconnect(&mut self, client: &Client, _: &DisconnectReason) -> Result {
        self.counts.remove(client.id());
        Ok(())
    }

    fn save(&self) -> Result<Option<Snapshot>> {
        inject_fault("save")?;
        if self.counts.is_empty() {
            return Ok(None);
        }
        Ok(Some(Snapshot::json(SCHEMA, &self.counts)?))
    }

    fn load(&mut self, snapshot: Snapshot) -> Result {
        inject_fault("load")?;
        match snapshot.schema.as_str() {
            SCHEMA => self.counts = snapshot.parse()?,
            other => return Err(Error::reject(format!("cannot load state `{other}`"))),
        }
        Ok(())
    }
}

plugnode_sdk::export!(Counter);

/// Fails at this step in the configured way.
fn inject_fault(step: &str) -> Result {
    match config::get(step)?.as_deref() {
        Some("refuse") => Err(Error::reject("asked to refuse")),
        Some("panic") => panic!("asked to panic"),
        Some("loop") => loop {
            std::hint::black_box(step);
        },
        _ => Ok(()),
    }
}

fn busy_wait(time: Duration) {
    let start = Instant::now();
    while std::hint::black_box(start.elapsed()) < time {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use plugnode_sdk::test::Kit;

    fn count(app: &mut Kit<Counter>) -> u64 {
        app.ask("ada", "hi", ())
            .expect("it acks")
            .arg(0)
            .expect("it is a number")
    }

    #[test]
    fn swap_keeps_counts() {
        let mut app = Kit::<Counter>::new();
        app.connect("ada");
        assert_eq!(count(&mut app), 1);
        app.swap();
        assert_eq!(count(&mut app), 2);
        assert!(app.states_refused().is_empty());
    }

    #[test]
    fn refused_state_restarts_counts() {
        let mut app = Kit::<Counter>::new().with_config("load", "refuse");
        app.connect("ada");
        assert_eq!(count(&mut app), 1);
        app.swap();
        assert_eq!(app.states_refused(), ["instance 0: load: asked to refuse"]);
        assert_eq!(count(&mut app), 1);
        assert_eq!(app.take_sent_to("ada")[1].event, "anew");
    }
}
