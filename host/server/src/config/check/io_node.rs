//! Validates `[io-node]`.

use super::Check;
use crate::config::{Config, IoNodeSettings, IoServerUrl, Role, TokenSettings};
use crate::roles::io_node::{Algorithm, JwksLocation};

/// Bytes of an HS256 key: at least the size of the hash (RFC 7518, section 3.2).
const MIN_SECRET: usize = 32;
/// The largest memory of a wasm32 instance.
const MAX_PAYLOAD: u64 = 1 << 32;

impl Check<'_> {
    pub(super) fn io_node(&mut self, config: &Config) {
        let (io_node, engine) = (&config.io_node, &config.io_node.engine);
        if let Some(advertise) = &io_node.advertise
            && let Err(problem) = IoServerUrl::parse(advertise)
        {
            self.refuse(&["io-node", "advertise"], problem);
        }
        self.name(io_node.name.as_deref(), &["io-node", "name"]);
        let path = &io_node.path;
        let plain = path.starts_with('/') && path.len() > 1 && !path.contains(['?', '#', ' ']);
        self.require(
            plain,
            &["io-node", "path"],
            &format!("`{path}` is not a path such as `/socket.io`"),
        );
        self.fixed_path(path, &["io-node", "path"]);
        let list = &config.frontend.client_config_url;
        let list_as_json = format!("{}.json", list.strip_suffix(".js").unwrap_or(list));
        let is_list = |path: &str| path == list || path == list_as_json;
        if config.has(Role::Frontend) && is_list(path.trim_end_matches('/')) {
            let problem = format!("`{path}` is a path of frontend.client-config-url; choose another");
            self.refuse(&["io-node", "path"], problem);
        }
        let problem = "must be 4GiB or less: no handler has the memory for more";
        self.require(
            engine.max_payload as u64 <= MAX_PAYLOAD,
            &["io-node", "max-payload"],
            problem,
        );
        self.nonzero(
            &["io-node"],
            [
                ("ping-interval-ms", engine.ping_interval.is_zero()),
                ("ping-timeout-ms", engine.ping_timeout.is_zero()),
                ("connect-timeout-ms", io_node.connect_timeout.is_zero()),
                ("upgrade-timeout-ms", engine.upgrade_timeout.is_zero()),
                ("max-payload", engine.max_payload == 0),
                ("send-buffer", engine.send_buffer == 0),
                ("send-timeout-ms", engine.send_timeout.is_zero()),
                ("close-timeout-ms", engine.close_timeout.is_zero()),
                ("control-packets-per-second", engine.control_packets_per_second == 0),
                ("packets-per-second", io_node.packets_per_second == 0),
                ("unfinished-bytes", engine.unfinished_bytes == 0),
                ("refuse-after-ms", io_node.refuse_after.is_zero()),
                ("channels-per-client", io_node.channels_per_client == 0),
                ("namespaces-per-connection", io_node.namespaces_per_connection == 0),
            ],
        );
        let problem = "names no transport; there are polling and websocket";
        self.require(!engine.transports.is_empty(), &["io-node", "transports"], problem);
        self.client_limits(io_node);
        self.drain(config);
        for (i, origin) in io_node.allowed_origins.iter().enumerate() {
            let problem = format!(
                "`{origin}` is not an origin such as \"https://example.com\" or \"http://localhost:3000\"; \"*\" is any"
            );
            let path = ["io-node", "allowed-origins", &i.to_string()];
            self.require(is_origin(origin), &path, &problem);
        }
        for (i, host) in io_node.allowed_hosts.iter().flatten().enumerate() {
            let problem =
                format!("`{host}` is not a host such as \"chat.example.com\" or \"*.example.com\"; \"*\" is any");
            self.require(is_host(host), &["io-node", "allowed-hosts", &i.to_string()], &problem);
        }
        self.token(&io_node.token, config.has(Role::IoNode));
        self.attributes(io_node);
    }

    fn client_limits(&mut self, io_node: &IoNodeSettings) {
        for (key, number) in [
            (
                "max-clients-per-address",
                io_node.per_address.clients.map(|number| number as u64),
            ),
            (
                "connects-per-second",
                io_node.per_address.connects_per_second.map(u64::from),
            ),
            ("events-per-second", io_node.events_per_second.map(u64::from)),
        ] {
            let problem = "must be 1 or more; leave it out for no limit";
            self.require(number != Some(0), &["io-node", key], problem);
        }
    }

    /// Checks `drain-ms` only if it is set: with a short deadline, the default is reduced instead.
    fn drain(&mut self, config: &Config) {
        let path = ["io-node", "drain-ms"];
        let (drain, deadline) = (config.io_node.drain, config.shutdown.deadline);
        if self.sources.of(&path).is_some() && drain >= deadline {
            let problem = format!(
                "must be less than shutdown.deadline-ms, {}, by which the process has ended",
                deadline.as_millis()
            );
            self.refuse(&path, problem);
        }
    }

    fn attributes(&mut self, io_node: &IoNodeSettings) {
        let claims = io_node.token.has_key().then_some(&io_node.token.claims);
        for name in io_node.attributes.keys() {
            if claims.is_some_and(|claims| claims.contains(name)) {
                let problem = format!(
                    "`{name}` is the attribute of a claim already, see io-node.token.claims; give this one another name"
                );
                self.refuse(&["io-node", "attributes", name], problem);
            }
        }
    }

    fn token(&mut self, token: &TokenSettings, runs_here: bool) {
        let named = self.sources.first_in(&["io-node", "token"]);
        if let Some(named) = named.filter(|_| !token.has_key()) {
            // A user who sets any key of the section expects that tokens are checked.
            let problem =
                "has no effect without a key that verifies tokens; add secret, secret-file, public-key or jwks";
            self.refuse(&["io-node", "token", &named], problem);
            return;
        }
        self.nonzero(
            &["io-node", "token"],
            [
                ("jwks-refresh-ms", token.jwks_refresh.is_zero()),
                ("jwks-pause-ms", token.jwks_pause.is_zero()),
                ("jwks-timeout-ms", token.jwks_timeout.is_zero()),
            ],
        );
        if let Some(secret) = &token.secret {
            let problem = format!("must be {MIN_SECRET} bytes or more, such as `openssl rand -base64 32` makes");
            let long = secret.expose().len() >= MIN_SECRET;
            self.require(long, &["io-node", "token", "secret"], &problem);
        }
        if let Some(JwksLocation::Url(url)) = &token.jwks {
            let problem = "is not a file, nor a URL such as https://login.example.com/.well-known/jwks.json";
            self.require(is_url(url), &["io-node", "token", "jwks"], problem);
        }
        for (key, file) in token.files() {
            if runs_here && !file.is_file() {
                self.refuse(
                    &["io-node", "token", key],
                    format!("there is no file {}", file.display()),
                );
            }
        }
        let path = ["io-node", "token", "algorithms"];
        let problem = "names no algorithm; there are HS256, RS256 and ES256";
        self.require(!token.algorithms.is_empty(), &path, problem);
        let secrets = token.secret.is_some() || token.secret_file.is_some();
        if secrets && !token.algorithms.is_empty() && !token.algorithms.contains(&Algorithm::HS256) {
            self.refuse(
                &path,
                "lacks HS256, the algorithm of a secret; add it, or remove the secret",
            );
        }
        let path = ["io-node", "token", "claims"];
        self.require(
            !token.claims.iter().any(String::is_empty),
            &path,
            "a claim's name is empty",
        );
    }
}

fn is_origin(text: &str) -> bool {
    if text == "*" {
        return true;
    }
    let Some((scheme, host)) = text.split_once("://") else {
        return false;
    };
    let plain = |text: &str| !text.contains(|c: char| c.is_whitespace() || c.is_control() || "*/?#@,".contains(c));
    let authority = host.parse::<http::uri::Authority>();
    !scheme.is_empty()
        && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
        && plain(host)
        && authority.is_ok_and(|authority| !authority.host().is_empty())
}

fn is_host(text: &str) -> bool {
    let name = text.strip_prefix("*.").unwrap_or(text);
    let fits = |c: char| c.is_ascii_alphanumeric() || "-_.[]:".contains(c);
    text == "*" || (!name.is_empty() && name.chars().all(fits))
}

fn is_url(text: &str) -> bool {
    let Ok(uri) = text.parse::<http::Uri>() else {
        return false;
    };
    let known = matches!(uri.scheme_str(), Some("http" | "https"));
    known
        && uri
            .authority()
            .is_some_and(|authority| !authority.host().is_empty() && !authority.as_str().contains('@'))
}
