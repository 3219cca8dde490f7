//! SIGHUP: reads the configuration again.
//!
//! Certificates, token keys, the keys of the server API, webhooks, the log level and the limits of an io-node take effect at once. For other
//! changes, the log says that they need a restart. An invalid configuration changes nothing.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde_json::Value;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{error, info, warn};

use super::config::check_keys_and_certificates;
use super::node::Reloadable;
use super::{log, runtime};
use plugnode_process::shutdown::Shutdown;
use plugnode_server::api::KeyRing;
use plugnode_server::config::{Config, Role, Webhook};
use plugnode_server::http::NewCertificate;
use plugnode_server::roles::app_node::Webhooks;
use plugnode_server::roles::io_node::NewKeys;

/// Keys that take effect at once.
const IMMEDIATE: [&str; 7] = [
    "log.level",
    "api.max-calls",
    "io-node.max-clients-per-address",
    "io-node.connects-per-second",
    "io-node.events-per-second",
    "io-node.channels-per-client",
    "io-node.namespaces-per-connection",
];
/// Keys that take effect at once, unless they turn TLS on or off.
const CERTIFICATE: [&str; 2] = ["http.tls-cert", "http.tls-key"];
/// A secret, which is never logged. It takes effect as part of the token keys.
const SECRET: &str = "io-node.token.secret";
/// The keys of the server API, and the webhooks: each list is replaced as a whole. Their values are not logged.
const WHOLE: [&str; 2] = ["api.key", "webhook"];

/// Reloads the configuration at each SIGHUP.
pub(super) struct Reload {
    pub(super) file: PathBuf,
    pub(super) roles: Vec<Role>,
    pub(super) config: Config,
    signals: Signal,
}

impl Reload {
    /// Listens for SIGHUP, which from now on does not end the process.
    pub(super) fn new(file: PathBuf, roles: Vec<Role>, config: Config) -> Result<Self> {
        Ok(Self {
            file,
            roles,
            config,
            signals: signal(SignalKind::hangup()).context("cannot listen for SIGHUP")?,
        })
    }

    /// Reloads at each signal, until shutdown begins.
    pub(super) async fn run(mut self, reloadable: Reloadable, shutdown: Shutdown) {
        loop {
            tokio::select! {
                () = shutdown.begun() => return,
                signal = self.signals.recv() => if signal.is_none() { return },
            }
            if let Err(problem) = self.reload(&reloadable).await {
                error!(error = %format_args!("{problem:#}"), "configuration not reloaded; the previous one stays in effect");
            }
        }
    }

    async fn reload(&mut self, reloadable: &Reloadable) -> Result<()> {
        let roles = &self.roles;
        let read = Config::load(Some(&self.file), runtime::variables(), |config| {
            if !roles.is_empty() {
                config.roles.clone_from(roles);
            }
        })?;
        let stays_tls = reloadable.tls.is_some() && read.http.tls_cert.is_some();
        let (mut changed, mut waiting) = (Vec::new(), Vec::new());
        for (key, (before, now)) in differences(&self.config, &read) {
            let is_immediate = IMMEDIATE.contains(&key.as_str()) || (stays_tls && CERTIFICATE.contains(&key.as_str()));
            match is_immediate {
                true => changed.push(format!("{key}: {before} → {now}")),
                false if key != SECRET && !WHOLE.iter().any(|whole| key.starts_with(whole)) => waiting.push(key),
                false => {}
            }
        }
        // All or nothing: whatever can fail comes before the first change.
        if !waiting.is_empty() {
            check_keys_and_certificates(&read).await?;
        }
        let new = NewFiles::read(reloadable, &read).await?;
        log::set_level(read.log.level)?;
        if let (Some(tls), Some(certificate)) = (&reloadable.tls, new.certificate)
            && tls.replace(certificate)
        {
            changed.push("the certificate".into());
        }
        if let Some(updater) = &reloadable.io_node {
            updater.limit(&read.io_node);
            if let Some(keys) = new.keys
                && updater.replace_keys(keys).await
            {
                changed.push("the keys of tokens".into());
            }
        }
        if let (Some(api), Some(keys)) = (&reloadable.api, new.api_keys)
            && (api.replace_keys(keys) || self.config.api.keys != read.api.keys)
        {
            changed.push("the keys of the server API".into());
        }
        if let (Some(app_node), Some(webhooks)) = (&reloadable.app_node, new.webhooks)
            && app_node.replace_webhooks(webhooks)
        {
            changed.push("the webhooks".into());
        }
        match changed.is_empty() {
            true => info!("configuration reloaded; nothing changed that takes effect without a restart"),
            false => info!(changed = %changed.join(", "), "configuration reloaded"),
        }
        if !waiting.is_empty() {
            warn!(keys = %waiting.join(", "), "restart the process to apply changes");
        }
        // Keep the other values as they are in effect: the next reload compares with them.
        self.config.log.level = read.log.level;
        self.config.api.keys = read.api.keys;
        self.config.api.max_calls = read.api.max_calls;
        self.config.webhooks = read.webhooks;
        if stays_tls {
            self.config.http.tls_cert = read.http.tls_cert;
            self.config.http.tls_key = read.http.tls_key;
        }
        let (known, read) = (&mut self.config.io_node, read.io_node);
        known.per_address = read.per_address;
        known.events_per_second = read.events_per_second;
        known.channels_per_client = read.channels_per_client;
        known.namespaces_per_connection = read.namespaces_per_connection;
        Ok(())
    }
}

/// What a reload reads before it changes anything.
struct NewFiles {
    /// None unless the port has TLS, and the configuration still names a certificate.
    certificate: Option<NewCertificate>,
    /// None without an io-node that checks tokens.
    keys: Option<NewKeys>,
    /// None without the server API.
    api_keys: Option<KeyRing>,
    /// None without an app-node.
    webhooks: Option<Webhooks>,
}

impl NewFiles {
    async fn read(reloadable: &Reloadable, now: &Config) -> Result<Self> {
        let keys = match &reloadable.io_node {
            Some(updater) => updater.read_keys(&now.io_node.token).await.context("[io-node.token]")?,
            None => None,
        };
        let api_keys = reloadable.api.as_ref().map(|_| KeyRing::read(&now.api)).transpose()?;
        let app_node = reloadable.app_node.as_ref();
        let webhooks = app_node.map(|_| Webhook::read_all(&now.webhooks)).transpose()?;
        // Last, so that the task that watches these files has no time to use newer ones in between.
        let certificate = match (&reloadable.tls, &now.http.tls_cert, &now.http.tls_key) {
            (Some(_), Some(certificate), Some(key)) => NewCertificate::read(certificate, key).map(Some),
            _ => Ok(None),
        };
        Ok(Self {
            certificate: certificate.context("[http] tls-cert, tls-key")?,
            keys,
            api_keys,
            webhooks,
        })
    }
}

/// Keys that differ, with both values.
fn differences(before: &Config, now: &Config) -> BTreeMap<String, (Value, Value)> {
    let (before, now) = (flat(before), flat(now));
    let keys = before.keys().chain(now.keys());
    let value = |of: &BTreeMap<String, Value>, key: &str| of.get(key).cloned().unwrap_or(Value::Null);
    keys.map(|key| (key.clone(), (value(&before, key), value(&now, key))))
        .filter(|(_, (before, now))| before != now)
        .collect()
}

/// All values of a configuration, by `section.key`.
fn flat(config: &Config) -> BTreeMap<String, Value> {
    fn collect(value: Value, name: String, found: &mut BTreeMap<String, Value>) {
        let inner = |key: String| match name.is_empty() {
            true => key,
            false => format!("{name}.{key}"),
        };
        match value {
            Value::Object(keys) => keys
                .into_iter()
                .for_each(|(key, value)| collect(value, inner(key), found)),
            Value::Array(items) if items.iter().any(Value::is_object) => {
                for (i, value) in items.into_iter().enumerate() {
                    collect(value, inner(i.to_string()), found);
                }
            }
            value => drop(found.insert(name, value)),
        }
    }
    let mut found = BTreeMap::new();
    collect(
        serde_json::to_value(config).unwrap_or_default(),
        String::new(),
        &mut found,
    );
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_name_the_changed_keys() {
        let before = Config::default();
        let mut now = before.clone();
        now.io_node.events_per_second = Some(5);
        now.transport.redis.lease = std::time::Duration::from_millis(1);
        now.apps.push(Default::default());
        let found = differences(&before, &now);
        assert_eq!(found["io-node.events-per-second"], (Value::Null, 5.into()));
        assert_eq!(found["transport.lease-ms"], (3_000.into(), 1.into()));
        assert!(found.contains_key("app.0.namespace"), "{found:?}");
        let known = flat(&before);
        for key in IMMEDIATE {
            assert!(known.contains_key(key), "{key} is not a key of the configuration");
        }
    }
}
