//! Answers as the public documents and test suites of Socket.IO ask of a server under test, so that these can be pointed
//! at plugnode.
//!
//! Suites differ in what they want to be greeted with, so there are three configurations, one file each beside this
//! folder: [`protocol`] for the protocols themselves, [`client`] for client libraries, [`cluster`] for several nodes that are
//! to be one server. The `configuration` in an app's `config` table says which, and is `main` unless it is set.

mod client;
mod cluster;
mod date;
mod one;
mod protocol;

use plugnode_sdk::config;
use plugnode_sdk::prelude::*;

/// The handler. It remembers nothing of its clients: what it must know of one is in the bucket `default`.
#[derive(Default)]
pub struct Conformance {
    configuration: Configuration,
}

/// Whom this instance answers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Configuration {
    #[default]
    Main,
    Client,
    Cluster,
}

impl Handler for Conformance {
    fn on_start(&mut self) -> Result {
        self.configuration = match config::get("configuration")?.as_deref() {
            None | Some("main") => Configuration::Main,
            Some("client") => Configuration::Client,
            Some("cluster") => Configuration::Cluster,
            Some(other) => {
                let reason = format!("there is no configuration `{other}`: it is `main`, `client` or `cluster`");
                return Err(Error::reject(reason));
            }
        };
        Ok(())
    }

    fn on_connection(&mut self, client: &Client, handshake: &Handshake) -> Result {
        match self.configuration {
            Configuration::Main => protocol::greet(client, handshake),
            Configuration::Client => client::admit(client, handshake),
            Configuration::Cluster => cluster::join(client),
        }
    }

    fn on_message(&mut self, client: &Client, message: &Incoming) -> Result {
        match self.configuration {
            Configuration::Main => protocol::answer(client, message),
            Configuration::Client => client::answer(client, message),
            Configuration::Cluster => cluster::answer(client, message),
        }
    }

    fn on_reply(&mut self, client: &Client, reply: &Reply) -> Result {
        match self.configuration {
            Configuration::Main => Ok(()),
            Configuration::Client => client::acknowledged(client, reply),
            Configuration::Cluster => cluster::told(reply),
        }
    }

    fn on_disconnect(&mut self, client: &Client, _: &DisconnectReason) -> Result {
        match self.configuration {
            Configuration::Client => client::forget(client),
            Configuration::Main | Configuration::Cluster => Ok(()),
        }
    }
}

plugnode_sdk::export!(Conformance);

#[cfg(test)]
mod tests {
    use super::*;
    use plugnode_sdk::test::Kit;

    #[test]
    fn an_unknown_configuration_is_refused_at_once() {
        let mut app = Kit::<Conformance>::new().with_config("configuration", "mian");
        let failure = app.try_start().unwrap_err();
        assert!(format!("{failure:?}").contains("`mian`"), "{failure:?}");
    }
}
