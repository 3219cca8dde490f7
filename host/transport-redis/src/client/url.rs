//! URLs of Redis: address and credentials.
//!
//! `Debug`, `Display` and errors show hosts, ports, socket, database and the master's name, and never a password.

use std::fmt;
use std::path::PathBuf;

const PORT: u16 = 6379;
const SENTINEL_PORT: u16 = 26379;

const SCHEMES: &str = "redis://, rediss:// (TLS), redis+unix://, redis+sentinel://, rediss+sentinel://, \
    redis+cluster:// and rediss+cluster:// (with valkey in place of redis too)";

/// Address and credentials of Redis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Location {
    pub(crate) topology: Topology,
    pub(crate) tls: bool,
    pub(crate) login: Login,
    pub(crate) database: i64,
}

/// Kind and addresses of a deployment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Topology {
    /// One server, at a host and port.
    Node(Host),
    /// One server, at a Unix socket.
    Socket(PathBuf),
    /// The master with this name, as these Sentinels know it.
    Sentinel {
        sentinels: Vec<Host>,
        master: String,
        login: Login,
    },
    /// The Cluster that these nodes belong to.
    Cluster(Vec<Host>),
}

/// A host and a port.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Host {
    pub(crate) name: String,
    pub(crate) port: u16,
}

/// User and password, if needed.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Login {
    pub(crate) user: Option<String>,
    pub(crate) password: Option<String>,
}

impl Location {
    /// Parses a URL. Errors contain no secrets.
    pub(crate) fn parse(url: &str) -> Result<Self, String> {
        let (scheme, rest) = url.split_once("://").ok_or_else(|| unknown(url))?;
        let (tls, kind) = kind(scheme).ok_or_else(|| unknown(scheme))?;
        if rest.contains('#') {
            return Err("a Redis URL has no `#`; write it %23 in a user, a password or a name".into());
        }
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        if query.contains('@') {
            return Err("write `?` and `@` in a user or a password as %3F and %40".into());
        }
        let mut query = Query::parse(query)?;
        if kind == SchemeKind::Unix {
            return unix(rest, query);
        }

        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        if path.contains('@') {
            return Err("write a `/` in the user or the password as %2F".into());
        }
        let (login, hosts) = match authority.rsplit_once('@') {
            Some((login, hosts)) => (Login::parse(login)?, hosts),
            None => (Login::default(), authority),
        };
        let port = if kind == SchemeKind::Sentinel {
            SENTINEL_PORT
        } else {
            PORT
        };
        let hosts = hosts
            .split(',')
            .map(|host| Host::parse(host, port))
            .collect::<Result<Vec<_>, _>>()?;
        let (topology, database) = match kind {
            SchemeKind::Node => (Topology::Node(only(hosts)?), database(path)?),
            SchemeKind::Sentinel => {
                let (master, path) = path.split_once('/').unwrap_or((path, ""));
                if master.is_empty() {
                    return Err(
                        "a Sentinel URL names the master: redis+sentinel://HOST:26379,HOST:26379/MASTER".into(),
                    );
                }
                let login = Login {
                    user: query.take("sentinel-user"),
                    password: query.take("sentinel-password"),
                };
                let master = decoded(master, "the master's name")?;
                (
                    Topology::Sentinel {
                        sentinels: hosts,
                        master,
                        login,
                    },
                    database(path)?,
                )
            }
            SchemeKind::Cluster if !matches!(path.trim_end_matches('/'), "" | "0") => {
                return Err("a Redis Cluster has database 0 only; leave the number out".into());
            }
            SchemeKind::Cluster => (Topology::Cluster(hosts), 0),
            SchemeKind::Unix => unreachable!("a socket has been returned above"),
        };
        query.nothing_left()?;
        Ok(Self {
            topology,
            tls,
            login,
            database,
        })
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum SchemeKind {
    Node,
    Unix,
    Sentinel,
    Cluster,
}

/// Whether a scheme means TLS, and its kind of deployment.
fn kind(scheme: &str) -> Option<(bool, SchemeKind)> {
    let (base, kind) = scheme.split_once('+').unwrap_or((scheme, ""));
    let tls = match base {
        "redis" | "valkey" => false,
        "rediss" | "valkeys" => true,
        _ => return None,
    };
    match kind {
        "" if !scheme.contains('+') => Some((tls, SchemeKind::Node)),
        "sentinel" => Some((tls, SchemeKind::Sentinel)),
        "cluster" => Some((tls, SchemeKind::Cluster)),
        "unix" if !tls => Some((tls, SchemeKind::Unix)),
        _ => None,
    }
}

/// Shows only text that looks like a scheme, because a URL without one may begin with a password.
fn unknown(scheme: &str) -> String {
    let scheme = scheme.split(':').next().unwrap_or_default();
    if !scheme.is_empty() && scheme.chars().all(|c| c.is_ascii_lowercase() || c == '+') {
        format!("`{scheme}` is not a transport; use memory: or {SCHEMES}")
    } else {
        format!("is not the URL of a transport; use memory: or {SCHEMES}")
    }
}

fn unix(path: &str, mut query: Query<'_>) -> Result<Location, String> {
    let (login, path) = match path.split_once('/') {
        Some(("", _)) => (Login::default(), path),
        Some((login, _)) => match login.strip_suffix('@') {
            Some(text) => (Login::parse(text)?, &path[login.len()..]),
            None => return Err("a socket's path is absolute: redis+unix:///run/redis/redis.sock".into()),
        },
        None => return Err("a socket's path is absolute: redis+unix:///run/redis/redis.sock".into()),
    };
    let number = query.take("db").unwrap_or_default();
    query.nothing_left()?;
    Ok(Location {
        topology: Topology::Socket(decoded(path, "the socket's path")?.into()),
        tls: false,
        login,
        database: database(&number)?,
    })
}

fn only(mut hosts: Vec<Host>) -> Result<Host, String> {
    match (hosts.pop(), hosts.len()) {
        (Some(host), 0) => Ok(host),
        _ => Err("several hosts need redis+sentinel:// or redis+cluster://".into()),
    }
}

fn database(text: &str) -> Result<i64, String> {
    match text.trim_end_matches('/') {
        "" => Ok(0),
        number => number
            .parse()
            .ok()
            .filter(|number| (0..1_000_000).contains(number))
            .ok_or_else(|| "what comes after the host is the number of a database, such as /0".into()),
    }
}

impl Host {
    fn parse(text: &str, port: u16) -> Result<Self, String> {
        let (name, rest) = match text.strip_prefix('[').map(|text| text.split_once(']')) {
            Some(Some((name, rest))) => (name, rest),
            Some(None) => return Err("a host's `[` is not closed".into()),
            None => match text.find(':') {
                Some(at) => text.split_at(at),
                None => (text, ""),
            },
        };
        if name.is_empty() {
            return Err("the host is missing: redis://HOST:6379".into());
        }
        let port = match rest.strip_prefix(':') {
            None if rest.is_empty() => Some(port),
            None => None,
            Some(number) => number.parse().ok().filter(|port| *port > 0),
        };
        // Not shown, because it may be a password whose `@` was forgotten.
        let port = port.ok_or("a host's port is not a number from 1 to 65535")?;
        Ok(Self {
            name: name.into(),
            port,
        })
    }
}

impl Login {
    fn parse(text: &str) -> Result<Self, String> {
        let (user, password) = match text.split_once(':') {
            Some((user, password)) => (user, Some(password)),
            None => (text, None),
        };
        let user = Some(decoded(user, "the user")?).filter(|user| !user.is_empty());
        let password = password.map(|password| decoded(password, "the password")).transpose()?;
        if user.is_some() && password.is_none() {
            return Err("a user needs a password: redis://USER:PASSWORD@HOST".into());
        }
        Ok(Self {
            user,
            password: password.filter(|password| !password.is_empty()),
        })
    }
}

/// `name=value&name=value`
struct Query<'a>(Vec<(&'a str, String)>);

impl<'a> Query<'a> {
    fn parse(text: &'a str) -> Result<Self, String> {
        let parts = text.split('&').filter(|part| !part.is_empty());
        let parts = parts.map(|part| {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            Ok((name, decoded(value, "a value after `?`")?))
        });
        Ok(Self(parts.collect::<Result<_, String>>()?))
    }

    fn take(&mut self, name: &str) -> Option<String> {
        let at = self.0.iter().position(|(known, _)| *known == name)?;
        Some(self.0.swap_remove(at).1).filter(|value| !value.is_empty())
    }

    fn nothing_left(self) -> Result<(), String> {
        match self.0.is_empty() {
            true => Ok(()),
            false => Err(
                "after `?` there may be db= for a socket, sentinel-user= and sentinel-password= for \
                          Sentinel, and nothing else"
                    .into(),
            ),
        }
    }
}

/// Percent-decodes a text.
fn decoded(text: &str, what: &str) -> Result<String, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let number = tail.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        let byte = number.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(byte.ok_or_else(|| format!("in {what}, a `%` is to be written %25"))?);
        rest = &tail[2..];
    }
    String::from_utf8(bytes).map_err(|_| format!("{what} is not UTF-8"))
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.password.is_some() { "Login(…)" } else { "Login" })
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name.contains(':') {
            true => write!(f, "[{}]:{}", self.name, self.port),
            false => write!(f, "{}:{}", self.name, self.port),
        }
    }
}

/// The URL without secrets, for messages.
impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |hosts: &[Host]| hosts.iter().map(Host::to_string).collect::<Vec<_>>().join(",");
        match &self.topology {
            Topology::Node(host) => write!(f, "{host}")?,
            Topology::Socket(path) => write!(f, "{}", path.display())?,
            Topology::Sentinel { sentinels, master, .. } => {
                write!(f, "master `{master}` of the Sentinels {}", list(sentinels))?;
            }
            Topology::Cluster(hosts) => write!(f, "Cluster {}", list(hosts))?,
        }
        match self.database {
            0 => Ok(()),
            number => write!(f, " database {number}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(url: &str) -> String {
        let location = Location::parse(url).unwrap();
        let Login { user, password } = &location.login;
        let text = format!("{location:?} {location}");
        assert!(
            password.as_ref().is_none_or(|password| !text.contains(password)),
            "{text}"
        );
        let login = format!(
            "{}:{}",
            user.as_deref().unwrap_or("-"),
            password.as_deref().unwrap_or("-")
        );
        format!("{location} {login} {}", if location.tls { "tls" } else { "plain" })
    }

    #[test]
    fn parses_each_kind_of_url() {
        for (url, expected) in [
            ("redis://h", "h:6379 -:- plain"),
            ("valkey://h:1/", "h:1 -:- plain"),
            ("rediss://:p%40%2f%25s@h:1/3", "h:1 database 3 -:p@/%s tls"),
            ("redis://me:a@b@[::1]:7", "[::1]:7 me:a@b plain"),
            ("redis+unix:///run/a%20b.sock", "/run/a b.sock -:- plain"),
            ("redis+unix://me:pw@/run/s?db=2", "/run/s database 2 me:pw plain"),
            ("valkeys+cluster://u:pw@a,b:2", "Cluster a:6379,b:2 u:pw tls"),
            (
                "redis+sentinel://a,b:2/main/4",
                "master `main` of the Sentinels a:26379,b:2 database 4 -:- plain",
            ),
        ] {
            assert_eq!(shown(url), expected, "{url}");
        }
        let url = "rediss+sentinel://u:pw@a/m?sentinel-user=su&sentinel-password=s%26p";
        assert_eq!(shown(url), "master `m` of the Sentinels a:26379 u:pw tls");
        let Topology::Sentinel { login, .. } = Location::parse(url).unwrap().topology else {
            panic!("it is a Sentinel URL");
        };
        assert_eq!(
            (login.user.as_deref(), login.password.as_deref()),
            (Some("su"), Some("s&p"))
        );
        assert!(!format!("{:?}", Location::parse(url)).contains("s&p"));
    }

    #[test]
    fn errors_contain_no_secrets() {
        for (url, expected) in [
            ("Se:cret", "not the URL of a transport"),
            ("secret://h", "`secret` is not a transport"),
            (
                "redis+tcp://h",
                "`redis+tcp` is not a transport; use memory: or redis://, rediss://",
            ),
            ("rediss+unix:///s", "is not a transport"),
            ("redis://:se/cret@h", "write a `/` in the user or the password as %2F"),
            (
                "redis://:se?cret@h",
                "write `?` and `@` in a user or a password as %3F and %40",
            ),
            ("redis://:se#cret@h", "write it %23"),
            ("redis://:secret%@h", "in the password, a `%` is to be written %25"),
            ("redis://user:secret", "a host's port is not a number"),
            ("redis://user@h", "a user needs a password"),
            ("redis://:secret@", "the host is missing"),
            ("redis://h/secret", "the number of a database"),
            ("redis://h/-1", "the number of a database"),
            (
                "redis://a,b",
                "several hosts need redis+sentinel:// or redis+cluster://",
            ),
            ("redis+cluster://a/1", "database 0 only"),
            ("redis+sentinel://a", "names the master"),
            ("redis://h?secret=secret", "and nothing else"),
            ("redis+unix://run/secret", "a socket's path is absolute"),
        ] {
            let error = Location::parse(url).expect_err(url);
            assert!(error.contains(expected), "{url}: {error}");
            assert!(
                url.starts_with("secret:") || !error.contains("secret"),
                "{url}: {error}"
            );
        }
    }

    mod arbitrary {
        use proptest::prelude::*;

        use super::*;
        use plugnode_testing::arbitrary::{nearly_text, one_of, text};

        fn url() -> impl Strategy<Value = String> {
            let known = one_of(&[
                "redis://h",
                "rediss://:p%40%2f%25s@h:1/3",
                "redis://me:a@b@[::1]:7",
                "redis+unix://me:pw@/run/s?db=2",
                "valkeys+cluster://u:pw@a,b:2",
                "redis+sentinel://a,b:2/main/4?sentinel-user=su&sentinel-password=s%26p",
                "redis+unix:///run/a%20b.sock",
            ]);
            prop_oneof![3 => nearly_text(known), 1 => text().prop_map(|rest| format!("redis://{rest}")), 1 => any::<String>()]
        }

        fn escaped(text: &str) -> String {
            text.bytes().map(|byte| format!("%{byte:02X}")).collect()
        }

        proptest! {
            #[test]
            fn any_url_is_parsed_or_refused(url in url()) {
                if let Ok(location) = Location::parse(&url) {
                    prop_assert!(!location.to_string().is_empty());
                }
            }

            #[test]
            fn any_credentials_are_parsed_and_hidden(
                user in text(),
                password in "[secret\u{e9}@:/?#&%]{8,12}",
                port in 1_u16..,
            ) {
                prop_assume!(!user.is_empty());
                let url = format!("redis://{}:{}@h:{port}/2", escaped(&user), escaped(&password));
                let location = Location::parse(&url).expect("it is well formed");
                prop_assert_eq!(location.login.user.as_deref(), Some(&*user));
                prop_assert_eq!(location.login.password.as_deref(), Some(&*password));
                let shown = format!("{location:?} {location}");
                prop_assert!(!shown.contains(&password), "{shown}");
                for broken in [url.replacen('/', "", 1), url.replace(":h", "::"), format!("{url}#"), format!("{url}x")] {
                    if let Err(error) = Location::parse(&broken) {
                        prop_assert!(!error.contains(&password) && !error.contains(&escaped(&password)), "{error}");
                    }
                }
            }
        }
    }
}
