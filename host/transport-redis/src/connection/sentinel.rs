//! Who is the master, asked of all Sentinels at once: one that was cut off from the others may name the master of
//! before, and the one that knows of the latest election is right.

use std::collections::HashMap;

use futures_util::future::join_all;
use redis::{Cmd, RedisResult};

use super::server::Server;
use super::trouble::{Kind, Trouble};
use super::url::{Host, Login};

/// What Sentinels are asked.
#[derive(Clone, Copy)]
pub(super) struct Sentinels<'a> {
    pub(super) hosts: &'a [Host],
    /// The name under which they know the master.
    pub(super) master: &'a str,
    pub(super) login: &'a Login,
}

/// What one Sentinel says: the number of the election that it knows of, and who won it.
type Election = (u64, Host);

impl Sentinels<'_> {
    /// The master, as of the latest election that any of them knows of.
    pub(super) async fn find(self, server: &Server) -> Result<Host, Trouble> {
        let asked = self.hosts.iter().map(|host| async move {
            let answer = self.ask(server, host).await;
            answer.map_err(|trouble| Trouble::new(Kind::Sentinel, format!("Sentinel {host}: {}", trouble.detail)))
        });
        let mut latest: Option<Election> = None;
        let mut problem = Trouble::new(Kind::Sentinel, "there is none");
        for answer in join_all(asked).await {
            match answer {
                Ok(election) if latest.as_ref().is_none_or(|latest| election.0 > latest.0) => latest = Some(election),
                Ok(_) => {}
                Err(trouble) => problem = trouble,
            }
        }
        latest.map(|(_, host)| host).ok_or(problem)
    }

    async fn ask(self, server: &Server, host: &Host) -> Result<Election, Trouble> {
        let unknown = || Trouble::new(Kind::Sentinel, format!("it knows no master `{}`", self.master));
        let mut connection = server.connect_sentinel(host, self.login).await?;
        let answer: RedisResult<HashMap<String, String>> =
            question("MASTER", self.master).query_async(&mut connection).await;
        let trouble = match answer {
            Ok(facts) => return election(&facts).ok_or_else(unknown),
            Err(error) => Trouble::of(&error),
        };
        if trouble.detail.contains("No such master") {
            return Err(unknown());
        }
        if trouble.kind != Kind::Rights {
            return Err(trouble);
        }
        // The least that a user for clients may ask; it does not tell the election.
        let answer: RedisResult<Option<(String, u16)>> = question("GET-MASTER-ADDR-BY-NAME", self.master)
            .query_async(&mut connection)
            .await;
        let (name, port) = answer.map_err(|error| Trouble::of(&error))?.ok_or_else(unknown)?;
        Ok((0, Host { name, port }))
    }
}

fn question(what: &str, master: &str) -> Cmd {
    let mut question = redis::cmd("SENTINEL");
    question.arg(what).arg(master);
    question
}

fn election(facts: &HashMap<String, String>) -> Option<Election> {
    let number = facts
        .get("config-epoch")
        .and_then(|text| text.parse().ok())
        .unwrap_or(0);
    let host = Host {
        name: facts.get("ip")?.clone(),
        port: facts.get("port")?.parse().ok()?,
    };
    Some((number, host))
}
