//! The server that the public documents and test suites of Socket.IO expect, so that they can run against plugnode.
//!
//! The suites expect different servers, so there are three configurations: `main` ([`protocol`]) for the protocols, `client`
//! ([`client`]) for client libraries, and `cluster` ([`cluster`]) for several nodes that act as one server. The key `configuration`
//! in the app's `config` table selects one; the default is `main`. The folder above has a configuration file for each.

mod argument;
mod client;
mod cluster;
mod date;
mod protocol;

use plugnode_sdk::config;
use plugnode_sdk::prelude::*;

/// The handler. It keeps no state of clients in memory, but in bucket `default`.
#[derive(Default)]
pub struct Conformance {
    configuration: Configuration,
}

/// The kind of test suite.
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
                let reason = format!("unknown configuration `{other}`: use `main`, `client` or `cluster`");
                return Err(Error::reject(reason));
            }
        };
        Ok(())
    }

    fn on_connection(&mut self, client: &Client, handshake: &Handshake) -> Result {
        match self.configuration {
            Configuration::Main => protocol::send_auth(client, handshake),
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
            Configuration::Cluster => cluster::acknowledge(reply),
        }
    }

    fn on_disconnect(&mut self, client: &Client, _: &DisconnectReason) -> Result {
        match self.configuration {
            Configuration::Client => client::delete_record(client),
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
    fn refuses_unknown_configuration_at_start() {
        let mut app = Kit::<Conformance>::new().with_config("configuration", "mian");
        let failure = app.try_start().unwrap_err();
        assert!(format!("{failure:?}").contains("`mian`"), "{failure:?}");
    }
}
