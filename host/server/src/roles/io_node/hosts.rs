//! Host names that requests may be for, as a protection against DNS rebinding: pages whose own host name resolves to this node.
//!
//! For a browser such a page has the same origin as the node, so `Origin` proves nothing, and a GET has none. But the page cannot change the
//! name in `Host`. Addresses, and names of one word, are not names of pages on the Internet, so they are always allowed.

use std::collections::HashSet;
use std::net::{Ipv4Addr, Ipv6Addr};

use http::HeaderMap;
use http::header::HOST;

use super::origin::name_of;

/// Characters of a client's host name that are shown.
const MAX_SHOWN: usize = 200;

/// The hosts that requests may be for.
#[derive(Debug, Clone)]
pub(super) struct Hosts {
    any: bool,
    named: HashSet<String>,
    /// Endings of allowed names, each beginning with a dot.
    endings: Vec<String>,
}

/// The request is for another host.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("requests for the host {0:?} are refused; if it is a name of this node, add it to [io-node] allowed-hosts")]
pub(super) struct HostNotAllowed(String);

impl Hosts {
    /// Allows these names, such as `chat.example.com`, all names below one for `*.example.com`, or any for `*`. None allows any.
    pub(super) fn new(named: Option<&[String]>) -> Self {
        let mut hosts = Self {
            any: named.is_none(),
            named: HashSet::new(),
            endings: vec![".localhost".into()],
        };
        for name in named.into_iter().flatten() {
            match name.strip_prefix('*') {
                Some("") => hosts.any = true,
                Some(ending) => hosts.endings.push(plain(ending)),
                None => _ = hosts.named.insert(plain(name)),
            }
        }
        hosts
    }

    /// Checks the host of a request. A request without the header does not come from a browser.
    ///
    /// # Errors
    /// If a host is not allowed.
    pub(super) fn check(&self, headers: &HeaderMap) -> Result<(), HostNotAllowed> {
        if self.any {
            return Ok(());
        }
        let wrong = headers.get_all(HOST).iter().find(|host| !self.serves(host.as_bytes()));
        wrong.map_or(Ok(()), |host| {
            let shown = String::from_utf8_lossy(host.as_bytes());
            Err(HostNotAllowed(shown.chars().take(MAX_SHOWN).collect()))
        })
    }

    fn serves(&self, host: &[u8]) -> bool {
        let Ok(host) = std::str::from_utf8(host) else {
            return false;
        };
        let port = &host[name_of(host).len()..];
        if !port.trim_start_matches(':').bytes().all(|byte| byte.is_ascii_digit()) {
            return false;
        }
        let name = plain(host);
        is_address(&name)
            || !name.contains('.')
            || self.named.contains(&name)
            || self.endings.iter().any(|ending| name.ends_with(&**ending))
    }
}

/// The name in lower case, without port and without the final dot of the root.
fn plain(host: &str) -> String {
    let name = name_of(host.trim());
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

fn is_address(name: &str) -> bool {
    let within = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    match within {
        Some(v6) => v6.parse::<Ipv6Addr>().is_ok(),
        None => name.parse::<Ipv4Addr>().is_ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn takes(hosts: &Hosts, host: &str) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(HOST, host.parse().unwrap());
        hosts.check(&headers).is_ok()
    }

    fn hosts(named: &[&str]) -> Hosts {
        let named: Vec<String> = named.iter().map(ToString::to_string).collect();
        Hosts::new(Some(&named))
    }

    #[test]
    fn refuses_internet_names_unless_allowed() {
        let hosts = hosts(&["chat.example.com", "*.Example.org"]);
        for (host, taken) in [
            ("127.0.0.1:8080", true),
            ("[::1]:8080", true),
            ("localhost:8080", true),
            ("LOCALHOST.", true),
            ("app.localhost:3000", true),
            ("io-1:8080", true),
            ("chat.example.com", true),
            ("Chat.Example.com.:443", true),
            ("a.example.org", true),
            ("a.b.example.org:80", true),
            ("example.org", false),
            ("badexample.org", false),
            ("evil.example", false),
            ("chat.example.com.evil.example", false),
            ("127.0.0.1.evil.example", false),
            ("evil.example:127.0.0.1", false),
            ("[::1].evil.example", false),
        ] {
            assert_eq!(takes(&hosts, host), taken, "{host}");
        }
        assert!(hosts.check(&HeaderMap::new()).is_ok());
    }

    #[test]
    fn none_and_star_allow_any_host() {
        assert!(takes(&Hosts::new(None), "evil.example"));
        assert!(takes(&hosts(&["*"]), "evil.example"));
        assert!(!takes(&hosts(&[]), "evil.example"));
    }

    #[test]
    fn checks_both_of_two_host_headers() {
        let mut headers = HeaderMap::new();
        headers.append(HOST, "localhost".parse().unwrap());
        headers.append(HOST, "evil.example".parse().unwrap());
        let error = hosts(&[]).check(&headers).unwrap_err().to_string();
        assert!(
            error.contains("evil.example") && error.contains("allowed-hosts"),
            "{error}"
        );
    }
}
