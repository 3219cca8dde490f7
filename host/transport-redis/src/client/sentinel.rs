//! Finds the master by asking all Sentinels at once. The answer with the latest election epoch wins, because a partitioned Sentinel may
//! name a former master.

use std::collections::HashMap;

use futures_util::future::join_all;
use redis::{Cmd, RedisResult};

use crate::client::dialer::Dialer;
use crate::client::fault::{FaultKind, RedisFault};
use crate::client::url::{Host, Login};

/// A question to Sentinels.
#[derive(Clone, Copy)]
pub(crate) struct Sentinels<'a> {
    pub(crate) hosts: &'a [Host],
    /// Name of the master.
    pub(crate) master: &'a str,
    pub(crate) login: &'a Login,
}

/// Answer of one Sentinel: the epoch of its last known election, and the winner.
type Election = (u64, Host);

impl Sentinels<'_> {
    /// The master of the latest known election.
    pub(crate) async fn find(self, dialer: &Dialer) -> Result<Host, RedisFault> {
        let asked = self.hosts.iter().map(|host| async move {
            let answer = self.ask(dialer, host).await;
            answer.map_err(|fault| RedisFault::new(FaultKind::Sentinel, format!("Sentinel {host}: {}", fault.detail)))
        });
        let mut latest: Option<Election> = None;
        let mut problem = RedisFault::new(FaultKind::Sentinel, "there is none");
        for answer in join_all(asked).await {
            match answer {
                Ok(election) if latest.as_ref().is_none_or(|latest| election.0 > latest.0) => latest = Some(election),
                Ok(_) => {}
                Err(fault) => problem = fault,
            }
        }
        latest.map(|(_, host)| host).ok_or(problem)
    }

    async fn ask(self, dialer: &Dialer, host: &Host) -> Result<Election, RedisFault> {
        let unknown = || RedisFault::new(FaultKind::Sentinel, format!("it knows no master `{}`", self.master));
        let mut connection = dialer.connect_sentinel(host, self.login).await?;
        let answer: RedisResult<HashMap<String, String>> =
            question("MASTER", self.master).query_async(&mut connection).await;
        let fault = match answer {
            Ok(info) => return election(&info).ok_or_else(unknown),
            Err(error) => RedisFault::of(&error),
        };
        if fault.detail.contains("No such master") {
            return Err(unknown());
        }
        if fault.kind != FaultKind::Rights {
            return Err(fault);
        }
        // The least that a client user may ask. It does not return the epoch.
        let answer: RedisResult<Option<(String, u16)>> = question("GET-MASTER-ADDR-BY-NAME", self.master)
            .query_async(&mut connection)
            .await;
        let (name, port) = answer.map_err(|error| RedisFault::of(&error))?.ok_or_else(unknown)?;
        Ok((0, Host { name, port }))
    }
}

fn question(what: &str, master: &str) -> Cmd {
    let mut question = redis::cmd("SENTINEL");
    question.arg(what).arg(master);
    question
}

fn election(info: &HashMap<String, String>) -> Option<Election> {
    let number = info.get("config-epoch").and_then(|text| text.parse().ok()).unwrap_or(0);
    let host = Host {
        name: info.get("ip")?.clone(),
        port: info.get("port")?.parse().ok()?,
    };
    Some((number, host))
}
