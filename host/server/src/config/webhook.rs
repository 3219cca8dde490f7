//! `[[webhook]]`: another program that is told of events by HTTP.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use plugnode_message::NamePattern;
use plugnode_settings::Millis;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Secret;
use crate::roles::app_node::{SigningSecret, WebhookEvent, WebhookSettings, Webhooks};

/// `[[webhook]]`: another program that app-nodes tell of events by HTTP, at least once each. Repeat the section for each. All app-nodes of a
/// cluster need the same.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Webhook {
    /// Its name: letters, digits, `-`, `_` and `.`. Deliveries are stored under it. Required.
    #[schemars(example = &"crm")]
    pub name: String,
    /// Where deliveries are sent by POST: an `http://` or `https://` URL. Required.
    #[schemars(example = &"https://crm.internal/plugnode")]
    pub url: String,
    /// PEM file with the certificates to trust for `https://`. Unset: those that browsers trust.
    #[schemars(example = &"webhook-ca.pem")]
    pub ca: Option<PathBuf>,
    /// Secret that deliveries are signed with: `whsec_` and 24 to 64 bytes in Base64. Better set by the variable, or kept in `secret-file`.
    #[schemars(example = &"whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=")]
    pub secret: Option<Secret>,
    /// File that holds the secret and nothing else. With `secret`, deliveries have a signature by each, so that a secret can be replaced.
    #[schemars(example = &"webhook.secret")]
    pub secret_file: Option<PathBuf>,
    /// Events to tell of: `connection`, `disconnect`, `dead-letter`.
    pub events: Vec<WebhookEvent>,
    /// Kinds of custom messages of handlers to pass on, by name, or by their beginning followed by `*`, such as `["acme.order/1", "mail.*"]`.
    #[schemars(with = "Vec<String>")]
    pub kinds: Vec<NamePattern>,
    /// Namespaces of these events, as clients or `[[app]]` name them. Empty: all.
    #[schemars(example = ["/chat"])]
    pub namespaces: Vec<String>,
    /// Time-out of one attempt.
    #[serde(rename = "timeout-ms", with = "Millis")]
    pub timeout: Duration,
    /// Attempts after which a delivery is dropped. The pause after the first is a second, and doubles up to an hour.
    pub attempts: u32,
    /// Age after which a delivery is dropped once an attempt fails.
    #[serde(rename = "give-up-after-ms", with = "Millis")]
    pub give_up_after: Duration,
    /// Deliveries that one app-node sends at a time, 1 to 256.
    pub concurrency: usize,
}

impl Default for Webhook {
    fn default() -> Self {
        Self {
            name: String::new(),
            url: String::new(),
            ca: None,
            secret: None,
            secret_file: None,
            events: vec![
                WebhookEvent::Connection,
                WebhookEvent::Disconnect,
                WebhookEvent::DeadLetter,
            ],
            kinds: Vec::new(),
            namespaces: Vec::new(),
            timeout: Duration::from_secs(10),
            attempts: 50,
            give_up_after: Duration::from_secs(3 * 86_400),
            concurrency: 8,
        }
    }
}

impl Webhook {
    /// Reads the files of webhooks.
    ///
    /// # Errors
    /// If there is no usable secret, or a URL or a file cannot be used. The error does not contain the secret.
    pub fn read_all(webhooks: &[Self]) -> Result<Webhooks> {
        let settings = |webhook: &Self| {
            webhook
                .settings()
                .with_context(|| format!("webhook {:?}", webhook.name))
        };
        Webhooks::new(webhooks.iter().map(settings).collect::<Result<Vec<_>>>()?)
    }

    fn settings(&self) -> Result<WebhookSettings> {
        let mut secrets = Vec::new();
        if let Some(secret) = &self.secret {
            secrets.push(SigningSecret::parse(secret.expose()).context("secret")?);
        }
        if let Some(file) = &self.secret_file {
            let name = || format!("secret-file: {}", file.display());
            let text = std::fs::read_to_string(file).with_context(name)?;
            secrets.push(SigningSecret::parse(&text).with_context(name)?);
        }
        ensure!(
            !secrets.is_empty(),
            "secret and secret-file are missing; name one of them"
        );
        Ok(WebhookSettings {
            name: self.name.clone(),
            url: self.url.clone(),
            ca: self.ca.clone(),
            secrets,
            events: self.events.clone(),
            kinds: self.kinds.clone(),
            namespaces: self.namespaces.clone(),
            timeout: self.timeout,
            attempts: self.attempts,
            give_up_after: self.give_up_after,
            concurrency: self.concurrency,
        })
    }
}
