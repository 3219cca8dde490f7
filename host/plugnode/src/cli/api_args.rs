//! Requests of the command line to the server API of a running node.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::cluster::missing_config;
use super::runtime;
use plugnode_server::api;
use plugnode_server::config::{Config, Permission};

/// How the API is reached.
#[derive(Debug, clap::Args)]
pub struct ApiArgs {
    /// Config file with [api]; its listen, and the secret of its first key with the permission, are used
    #[arg(short, long, value_name = "FILE", default_value = "plugnode.toml")]
    pub config: PathBuf,
    /// Address of the server API [default: [api] listen of the config file]
    #[arg(long, value_name = "HOST:PORT")]
    pub api: Option<String>,
    /// File with the secret of a key [default: a key of the config file]
    #[arg(long, value_name = "FILE")]
    pub key_file: Option<PathBuf>,
    /// Repeat the command with the same text, and it takes effect once within a day
    #[arg(long, value_name = "TEXT")]
    pub idempotency_key: Option<String>,
}

impl ApiArgs {
    /// Makes a request, and prints the answer.
    pub(super) fn call(&self, operation: &str, permission: Permission, body: &Value) -> Result<ExitCode> {
        let (address, secret) = self.target(permission)?;
        let call = api::call(&address, &secret, operation, self.idempotency_key.as_deref(), body);
        let (status, answer) = runtime::block_on(call)?;
        if status >= 300 {
            let text = |key: &str| answer[key].as_str().unwrap_or_default().to_owned();
            let field = answer["field"]
                .as_str()
                .map(|field| format!("{field} "))
                .unwrap_or_default();
            bail!(
                "the server API refuses ({status}): {}: {field}{}",
                text("title"),
                text("detail")
            );
        }
        println!("{answer}");
        Ok(ExitCode::SUCCESS)
    }

    /// Address and secret.
    fn target(&self, permission: Permission) -> Result<(String, String)> {
        let read = |file: &PathBuf| {
            let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
            anyhow::Ok(text.trim().to_owned())
        };
        if let (Some(address), Some(file)) = (&self.api, &self.key_file) {
            return Ok((address.clone(), read(file)?));
        }
        if !self.config.exists() {
            bail!("{}, or give --api and --key-file", missing_config(&self.config));
        }
        let config = Config::load(Some(&self.config), runtime::variables(), |_| {})?;
        let address = self.api.clone().or(config.api.listen);
        let address = address.context("[api] listen is not set in the config file; set it, or give --api")?;
        if let Some(file) = &self.key_file {
            return Ok((address, read(file)?));
        }
        let mut keys = config.api.keys.iter();
        let key = keys.find(|key| key.permissions.contains(&permission));
        let key = key.context("no [[api.key]] of the config file has the permission; add it, or give --key-file")?;
        match (&key.key, &key.key_file) {
            (Some(secret), _) => Ok((address, secret.expose().to_owned())),
            (None, Some(file)) => Ok((address, read(file)?)),
            (None, None) => bail!("the key {:?} has no secret", key.name),
        }
    }
}

/// JSON, or a text.
pub(super) fn value(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| text.into())
}
