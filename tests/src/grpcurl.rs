//! grpcurl: what somebody without our code sees of the API, through reflection.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::tools;

/// A plaintext client of one server.
#[derive(Debug, Clone)]
pub struct Grpcurl {
    address: String,
    limit: Duration,
}

impl Grpcurl {
    /// `address` is `host:port`.
    pub fn new(address: impl Into<String>) -> Self {
        Grpcurl {
            address: address.into(),
            limit: Duration::from_secs(10),
        }
    }

    /// How long a call may take; 10 s unless said otherwise.
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Names of the services that the server's reflection lists.
    pub fn services(&self) -> Result<Vec<String>> {
        let text = self.run(&[], &["list"])?;
        Ok(text.lines().map(str::to_owned).collect())
    }

    /// Calls `lockkeeper.v1.FleetService/GetStatus` and the like with one message; gives every answer.
    /// A status other than OK is an error that holds grpcurl's text.
    pub fn call(&self, method: &str, request: &Value) -> Result<Vec<Value>> {
        let text = self.run(&["-d", &request.to_string()], &[method])?;
        serde_json::Deserializer::from_str(&text)
            .into_iter::<Value>()
            .collect::<Result<_, _>>()
            .with_context(|| format!("read the answer to {method}: {text}"))
    }

    fn run(&self, options: &[&str], operation: &[&str]) -> Result<String> {
        let output = Command::new(tools::find("grpcurl")?)
            .args([
                "-plaintext",
                "-connect-timeout",
                "5",
                "-max-time",
                &self.limit.as_secs_f64().to_string(),
            ])
            .args(options)
            .arg(&self.address)
            .args(operation)
            .output()
            .context("run grpcurl")?;
        if !output.status.success() {
            bail!(
                "grpcurl {}: {}",
                operation.join(" "),
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}
