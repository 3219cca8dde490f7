//! Validates a configuration beyond the types of its values, and reports all problems at once.

mod io_node;
mod webhook;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::value_sources::ValueSources;
use super::{App, Config, ConfigError, IoServer, Role};
use plugnode_message::namespaces::Namespaces;
use plugnode_message::{MAX_NAME, NamePattern};
use plugnode_runtime::check_http_grant;

const MAX_INSTANCES: usize = 64;
/// One wasm page, the least memory of an instance.
const MIN_MEMORY: u64 = 65_536;
/// What 32-bit addresses reach, the most memory of an instance.
const MAX_MEMORY: u64 = 1 << 32;
/// More partitions cost Redis time without any benefit.
const MAX_PARTITIONS: u16 = 4096;
/// Bounds the board, which is stored as a whole at each change.
const MAX_RELEASES: usize = 1000;
/// Paths that the listener of `[http]` serves itself.
const HEALTH_PATHS: [&str; 2] = ["/healthz", "/readyz"];
/// Prefix of plugnode's own key-value buckets, such as those of timers.
const RESERVED_BUCKETS: &str = "plugnode:";
/// A shorter lease would expire during short pauses of the machine.
const MIN_LEASE: Duration = Duration::from_millis(500);

pub(super) fn check(config: &Config, sources: &ValueSources) -> Result<(), ConfigError> {
    let mut check = Check {
        sources,
        problems: Vec::new(),
    };
    check.roles(config);
    check.http(config);
    check.frontend(config);
    check.io_node(config);
    check.transport(config);
    check.admin(config);
    check.api(config);
    check.app_node(config);
    check.apps(config);
    check.webhooks(config);
    if check.problems.is_empty() {
        Ok(())
    } else {
        Err(ConfigError(check.problems))
    }
}

struct Check<'a> {
    sources: &'a ValueSources,
    problems: Vec<String>,
}

impl Check<'_> {
    fn refuse(&mut self, path: &[&str], problem: impl AsRef<str>) {
        // A missing key has no source: name its section or the file.
        let place = self
            .sources
            .of(path)
            .or_else(|| self.sources.of(&path[..path.len() - 1]))
            .or(self.sources.file());
        let place = place.map(|place| format!("{place}: ")).unwrap_or_default();
        self.problems
            .push(format!("{place}{}: {}", path.join("."), problem.as_ref()));
    }

    fn require(&mut self, holds: bool, path: &[&str], problem: &str) {
        if !holds {
            self.refuse(path, problem);
        }
    }

    /// Refuses the keys of a section that are zero.
    fn nonzero<const N: usize>(&mut self, section: &[&str], keys: [(&str, bool); N]) {
        for (key, is_zero) in keys {
            let path: Vec<&str> = section.iter().copied().chain([key]).collect();
            self.require(!is_zero, &path, "must be 1 or more");
        }
    }

    fn address(&mut self, text: &str, path: &[&str]) {
        if let Err(problem) = text.parse::<IoServer>() {
            self.refuse(path, problem);
        }
    }

    fn roles(&mut self, config: &Config) {
        self.require(
            !config.roles.is_empty(),
            &["roles"],
            "names no role; there are frontend, io-node and app-node",
        );
        if config.transport.is_memory() && config.has(Role::IoNode) != config.has(Role::AppNode) {
            let problem = "the transport `memory:` joins io-node and app-node within one process only; name both";
            self.refuse(&["roles"], problem);
        }
    }

    fn http(&mut self, config: &Config) {
        self.address(&config.http.listen, &["http", "listen"]);
        self.require(
            config.http.max_connections > 0,
            &["http", "max-connections"],
            "must be 1 or more",
        );
        self.nonzero(
            &["http"],
            [
                ("header-timeout-ms", config.http.header_timeout.is_zero()),
                ("body-timeout-ms", config.http.body_timeout.is_zero()),
                ("write-timeout-ms", config.http.write_timeout.is_zero()),
            ],
        );
        let problem = "must be 1 or more; leave it out for half of max-connections";
        let path = ["http", "max-connections-per-address"];
        self.require(config.http.max_connections_per_address != Some(0), &path, problem);
        self.certificate("http", &config.http.tls_cert, &config.http.tls_key);
    }

    /// Requires that certificate and key are both set or both unset, and that the files exist.
    fn certificate(&mut self, section: &str, cert: &Option<PathBuf>, key: &Option<PathBuf>) {
        if cert.is_some() != key.is_some() {
            let (given, missing) = match cert {
                Some(_) => ("tls-cert", "tls-key"),
                None => ("tls-key", "tls-cert"),
            };
            let problem = format!("goes together with {missing}; name both");
            self.refuse(&[section, given], problem);
        }
        self.file(&[section, "tls-cert"], cert);
        self.file(&[section, "tls-key"], key);
    }

    fn file(&mut self, path: &[&str], file: &Option<PathBuf>) {
        if let Some(file) = file.as_ref().filter(|file| !file.is_file()) {
            self.refuse(path, format!("there is no file {}; correct the path", file.display()));
        }
    }

    /// Refuses a path of the health checks, which share the port.
    fn fixed_path(&mut self, path: &str, key: &[&str]) {
        let is_fixed = HEALTH_PATHS.contains(&path.trim_end_matches('/'));
        let problem = format!("`{path}` is the path of health checks; choose another");
        self.require(!is_fixed, key, &problem);
    }

    fn frontend(&mut self, config: &Config) {
        let frontend = &config.frontend;
        let url = &frontend.client_config_url;
        let plain = url.starts_with('/') && url.len() > 1 && !url.contains(['?', '#', ' ']) && !url.ends_with(".json");
        let problem = format!("`{url}` is not a path such as `/config.js`");
        self.require(plain, &["frontend", "client-config-url"], &problem);
        self.fixed_path(url, &["frontend", "client-config-url"]);
        if let Some(listen) = &frontend.flash_policy_listen {
            self.address(listen, &["frontend", "flash-policy-listen"]);
        }
        let path = ["frontend", "static-dir"];
        let named = self.sources.of(&path).is_some();
        if config.has(Role::Frontend) && named && !frontend.static_dir.is_dir() {
            let problem = "create it, or correct the path";
            self.refuse(
                &path,
                format!("there is no folder {}; {problem}", frontend.static_dir.display()),
            );
        }
    }

    fn name(&mut self, name: Option<&str>, path: &[&str]) {
        let Some(name) = name else { return };
        if name.is_empty() {
            return self.refuse(path, "is missing; set it to letters, digits, `-`, `_`, `.` and `:`");
        }
        let fits = |c: char| c.is_ascii_alphanumeric() || "-_.:".contains(c);
        let problem = format!("`{name}` is not a name; letters, digits, `-`, `_`, `.` and `:` are");
        self.require(name.len() <= 128 && name.chars().all(fits), path, &problem);
    }

    fn transport(&mut self, config: &Config) {
        let transport = &config.transport;
        // The URL may contain a password, so the error does not repeat it.
        if let Err(problem) = check_transport_url(&transport.url) {
            self.refuse(&["transport", "url"], problem);
        }
        let (redis, common) = (&transport.redis, &transport.redis.common);
        let prefix = &redis.prefix;
        let plain = !prefix.is_empty() && !prefix.contains(|c: char| c.is_control() || "{}".contains(c));
        let problem = "must be a text without `{`, `}` and control characters";
        self.require(plain, &["transport", "prefix"], problem);
        if let Some(emitter) = &transport.emitter {
            let path = ["transport", "emitter"];
            let plain = !emitter.is_empty() && !emitter.contains(char::is_control);
            self.require(
                plain,
                &path,
                "must be a text without control characters; leave it out for no emitters",
            );
            let problem = "needs Redis, where emitters publish; write its URL in [transport] url, or leave this out";
            self.require(!transport.is_memory(), &path, problem);
        }
        let partitions = (1..=MAX_PARTITIONS).contains(&common.partitions);
        let problem = format!("must be 1 to {MAX_PARTITIONS}");
        self.require(partitions, &["transport", "partitions"], &problem);
        let shards = redis.shards > 0 && (redis.shards <= common.partitions || !partitions);
        let problem = "must be 1 or more, and no more than there are partitions";
        self.require(shards, &["transport", "shards"], problem);
        self.nonzero(
            &["transport"],
            [
                ("backlog", common.backlog.events == 0),
                ("client-backlog", common.backlog.client_events == 0),
                ("outbox", common.outbox.entries == 0),
                ("dead-letters", common.dead_letters.letters == 0),
                ("timers", common.timers.of_app == 0),
                ("client-timers", common.timers.of_client == 0),
                ("backlog-bytes", common.backlog.bytes == 0),
                ("client-backlog-bytes", common.backlog.client_bytes == 0),
                ("outbox-bytes", common.outbox.bytes == 0),
                ("dead-letters-bytes", common.dead_letters.bytes == 0),
                ("bucket-bytes", common.bucket_bytes == 0),
                ("max-component", common.max_component == 0),
            ],
        );
        let problem = format!("must be {} or more", MIN_LEASE.as_millis());
        self.require(redis.lease >= MIN_LEASE, &["transport", "lease-ms"], &problem);
        self.file(&["transport", "tls-ca"], &redis.tls.ca);
        self.certificate("transport", &redis.tls.cert, &redis.tls.key);
    }

    fn admin(&mut self, config: &Config) {
        let Some(listen) = &config.admin.listen else { return };
        self.address(listen, &["admin", "listen"]);
        let is_taken = *listen == config.http.listen && !listen.ends_with(":0");
        let problem = "is the address of [http] listen already; choose another port";
        self.require(!is_taken, &["admin", "listen"], problem);
    }

    fn api(&mut self, config: &Config) {
        let api = &config.api;
        self.nonzero(
            &["api"],
            [
                ("max-body", api.max_body.0 == 0),
                ("max-batch", api.max_batch == 0),
                ("max-calls", api.max_calls == 0),
                ("accept-timeout-ms", api.accept_timeout.is_zero()),
                ("commit-timeout-ms", api.commit_timeout.is_zero()),
            ],
        );
        if let Some(listen) = &api.listen {
            self.address(listen, &["api", "listen"]);
            let others = [Some(&config.http.listen), config.admin.listen.as_ref()];
            let is_taken = others.contains(&Some(listen)) && !listen.ends_with(":0");
            let problem = "is the address of [http] listen or [admin] listen already; choose another port";
            self.require(!is_taken, &["api", "listen"], problem);
            let problem = "there is no key, so nobody could use the API; add [[api.key]], or leave out listen";
            self.require(!api.keys.is_empty(), &["api", "key"], problem);
        }
        for (i, key) in api.keys.iter().enumerate() {
            let index = i.to_string();
            let path = |name: &'static str| ["api", "key", index.as_str(), name];
            self.name(Some(&key.name), &path("name"));
            let is_double = api.keys[..i].iter().any(|other| other.name == key.name);
            self.require(
                !is_double,
                &path("name"),
                "is the name of another key already; choose another",
            );
            let problem = "is missing, and so is key-file; set either";
            self.require(key.key.is_some() || key.key_file.is_some(), &path("key"), problem);
            self.file(&path("key-file"), &key.key_file);
            let problem = "names no namespace; name some, or \"*\" for all";
            self.require(!key.namespaces.is_empty(), &path("namespaces"), problem);
            let problem = "names no permission; there are publish, join, leave, disconnect, find, presence and event";
            self.require(!key.permissions.is_empty(), &path("permissions"), problem);
            self.require(key.calls_per_second > 0, &path("calls-per-second"), "must be 1 or more");
            let problem = "must be 1 to 3600";
            self.require(
                (1..=3_600).contains(&key.burst_seconds),
                &path("burst-seconds"),
                problem,
            );
        }
    }

    fn app_node(&mut self, config: &Config) {
        let app_node = &config.app_node;
        self.name(app_node.name.as_deref(), &["app-node", "name"]);
        self.require(
            app_node.retries.attempts > 0,
            &["app-node", "attempts"],
            "must be 1 or more",
        );
        self.require(
            (2..=MAX_RELEASES).contains(&app_node.kept_releases),
            &["app-node", "kept-releases"],
            "must be 2 to 1000: the release in use, and one to go back to",
        );
        let wanted: usize = config
            .apps
            .iter()
            .fold(0, |sum, app| sum.saturating_add(app.handler.max_instances()));
        let path = ["app-node", "max-instances"];
        self.require(app_node.max_instances > 0, &path, "must be 1 or more");
        if config.has(Role::AppNode) && wanted > app_node.max_instances && app_node.max_instances > 0 {
            let problem = format!(
                "is {}, but the apps have up to {wanted} instances; raise it, or lower instances and max-instances of the apps",
                app_node.max_instances
            );
            self.refuse(&path, problem);
        }
    }

    fn apps(&mut self, config: &Config) {
        if config.apps.is_empty() && (config.has(Role::IoNode) || config.has(Role::AppNode)) {
            self.refuse(
                &["app"],
                "there is no app to handle events; add [[app]] with component = \"APP.wasm\"",
            );
        }
        let mut seen = HashMap::new();
        let mut patterns = Namespaces::default();
        for (i, app) in config.apps.iter().enumerate() {
            let index = i.to_string();
            self.app(app, &index);
            self.grants(app, &index);
            self.presence(app, &index);
            if config.has(Role::AppNode) {
                self.component(&app.component, &index, config.transport.is_memory());
            }
            if let Some(first) = seen.insert(app.namespace.as_str(), i) {
                let problem = format!("`{}` is the namespace of app {first} already", app.namespace);
                self.refuse(&["app", &index, "namespace"], problem);
            } else if is_pattern(&app.namespace)
                && let Err(problem) = patterns.insert(&app.namespace, i)
            {
                self.refuse(&["app", &index, "namespace"], problem);
            }
        }
    }

    fn app(&mut self, app: &App, index: &str) {
        let name = &app.namespace;
        let problem = format!("`{name}` is not a namespace; one begins with `/` and holds no `,`, `?` or spaces");
        let plain = name.starts_with('/') && !name.contains([',', '?', ' ']);
        self.require(plain, &["app", index, "namespace"], &problem);
        self.nonzero(
            &["app", index],
            [("admission-timeout-ms", app.admission_timeout.is_zero())],
        );
        let instances = (1..=MAX_INSTANCES).contains(&app.handler.instances);
        let problem = format!("must be 1 to {MAX_INSTANCES}");
        self.require(instances, &["app", index, "instances"], &problem);
        if app.handler.max_instances.is_some_and(|max| max < app.handler.instances) {
            let problem = format!("must be at least instances, which is {}", app.handler.instances);
            self.refuse(&["app", index, "max-instances"], problem);
        }
        let limits = &app.handler.limits;
        let memory = (MIN_MEMORY..=MAX_MEMORY).contains(&(limits.memory as u64));
        let problem = "must be 64KiB to 4GiB, as WebAssembly has 32-bit addresses";
        self.require(memory, &["app", index, "limits", "memory"], problem);
        self.nonzero(
            &["app", index, "limits"],
            [
                ("time-ms", limits.time.is_zero()),
                ("commands", limits.commands == 0),
                ("bytes", limits.bytes == 0),
                ("payload", limits.payload == 0),
                ("attachments", limits.attachments == 0),
                ("value", limits.value == 0),
                ("snapshot", limits.snapshot == 0),
                ("http-requests", limits.http_requests == 0),
            ],
        );
    }

    fn grants(&mut self, app: &App, index: &str) {
        for (i, host) in app.handler.grants.http.iter().enumerate() {
            if let Err(problem) = check_http_grant(host) {
                self.refuse(&["app", index, "grants", "http", &i.to_string()], problem);
            }
        }
        for (i, bucket) in app.handler.grants.keyvalue.iter().enumerate() {
            let problem = format!(
                "`{bucket}` is reserved: names that begin with `{RESERVED_BUCKETS}` are plugnode's own; choose another"
            );
            let path = ["app", index, "grants", "keyvalue", &i.to_string()];
            self.require(!bucket.starts_with(RESERVED_BUCKETS), &path, &problem);
        }
    }

    fn presence(&mut self, app: &App, index: &str) {
        let presence = &app.handler.presence;
        for (i, NamePattern(pattern)) in presence.channels.iter().enumerate() {
            let beginning = pattern.strip_suffix('*').unwrap_or(pattern);
            let is_pattern = !pattern.is_empty() && !beginning.contains('*') && pattern.len() <= MAX_NAME;
            let problem = format!("`{pattern}` is neither a channel nor the beginning of channels followed by one `*`");
            let path = ["app", index, "presence", "channels", &i.to_string()];
            self.require(is_pattern, &path, &problem);
        }
        let problem = "has no effect without presence.channels; name the channels";
        let has_channels = !presence.events || !presence.channels.is_empty();
        self.require(has_channels, &["app", index, "presence", "events"], problem);
    }

    /// Requires the file of the first release. Over Redis a release may be in use already, so the file may be missing there.
    fn component(&mut self, file: &Path, index: &str, is_required: bool) {
        let path = ["app", index, "component"];
        if file.as_os_str().is_empty() {
            self.refuse(&path, "is missing; name the app's .wasm file");
        } else if is_required && !file.is_file() {
            let problem = "build it, such as by `plugnode build .`, or correct the path";
            self.refuse(&path, format!("there is no file {}; {problem}", file.display()));
        }
    }
}

/// Whether a namespace is a pattern.
fn is_pattern(namespace: &str) -> bool {
    namespace.contains(['{', '}'])
}

/// Checks the URL of a transport. The error contains no secrets.
fn check_transport_url(url: &str) -> Result<(), String> {
    match url.strip_prefix("memory:") {
        Some("") => Ok(()),
        Some(_) => Err("`memory:` takes nothing after the colon".into()),
        None => plugnode_transport_redis::check_url(url),
    }
}
