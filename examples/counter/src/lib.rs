//! Counts in memory what each client says, and hands its counts to the next release: the example of a handler with state.
//!
//! Any event is answered with how often its client has spoken to this instance, so the app is best bound with
//! `dispatch = "sticky"`. A few events ask for something else; [`Counter::on_message`] is the list. The `config` table
//! may hold `start = "refuse"`, or one of `save` and `load` with a fault, for tests: `refuse`, `panic` or `loop`.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use plugnode_sdk::prelude::*;
use plugnode_sdk::{config, context};

/// What is handed over: the counts, as JSON.
const SCHEMA: &str = "counter/1";

/// The handler.
#[derive(Default)]
pub struct Counter {
    /// How often each client has spoken.
    counts: BTreeMap<String, u64>,
}

impl Handler for Counter {
    fn on_start(&mut self) -> Result {
        misbehave("start")
    }

    fn on_connection(&mut self, client: &Client, _: &Handshake) -> Result {
        self.counts.insert(client.id().into(), 0);
        Ok(())
    }

    /// What was known of the client is gone, or with another instance: it begins anew.
    fn on_no_client(&mut self, client: &Client) -> Result {
        self.counts.insert(client.id().into(), 0);
        client.emit("anew", context().instance)?;
        Ok(())
    }

    fn on_message(&mut self, client: &Client, message: &Incoming) -> Result {
        let count = self.counts.entry(client.id().into()).or_default();
        *count += 1;
        match message.event.as_str() {
            // (ms): takes that long, and then answers as any other event does.
            "slow" => be_busy(Duration::from_millis(message.arg(0)?)),
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
        misbehave("save")?;
        if self.counts.is_empty() {
            return Ok(None);
        }
        Ok(Some(Snapshot::json(SCHEMA, &self.counts)?))
    }

    fn load(&mut self, snapshot: Snapshot) -> Result {
        misbehave("load")?;
        match snapshot.schema.as_str() {
            SCHEMA => self.counts = snapshot.parse()?,
            other => return Err(Error::reject(format!("`{other}` is not known here"))),
        }
        Ok(())
    }
}

plugnode_sdk::export!(Counter);

/// Does at this step what the configuration says.
fn misbehave(step: &str) -> Result {
    match config::get(step)?.as_deref() {
        Some("refuse") => Err(Error::reject("asked to refuse")),
        Some("panic") => panic!("asked to panic"),
        Some("loop") => loop {
            std::hint::black_box(step);
        },
        _ => Ok(()),
    }
}

fn be_busy(time: Duration) {
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
    fn counts_go_on_over_a_live_replacement() {
        let mut app = Kit::<Counter>::new();
        app.connect("ada");
        assert_eq!(count(&mut app), 1);
        app.swap();
        assert_eq!(count(&mut app), 2);
        assert!(app.states_refused().is_empty());
    }

    #[test]
    fn a_count_begins_anew_where_it_is_not_carried() {
        let mut app = Kit::<Counter>::new().with_config("load", "refuse");
        app.connect("ada");
        assert_eq!(count(&mut app), 1);
        app.swap();
        assert_eq!(app.states_refused(), ["instance 0: load: asked to refuse"]);
        assert_eq!(count(&mut app), 1);
        assert_eq!(app.take_sent_to("ada")[1].event, "anew");
    }
}
