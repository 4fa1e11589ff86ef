//! Whether a wave that bakes is well: its conditions, asked once.

use std::process::Stdio;
use std::time::Duration;

use http::Uri;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use lockkeeper_core::spec::{HealthCheck, TargetSpec};
use lockkeeper_migrate::db::VerifyOutcome;
use lockkeeper_migrate::sql;
use tokio::net::TcpStream;
use tokio::process::Command;

use crate::leader::run::Leader;

/// Longest time that one answer may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Longest answer that is read.
const ANSWER_MAX: usize = 1 << 20;

/// Asks every condition, and gives the first that does not hold: no answer is none that is well.
///
/// # Errors
/// The condition, and what was seen.
pub async fn look(leader: &Leader, checks: &[HealthCheck], targets: &[TargetSpec]) -> Result<(), String> {
    for check in checks {
        let asked = tokio::time::timeout(ANSWER_TIMEOUT, ask(leader, check, targets)).await;
        let seconds = ANSWER_TIMEOUT.as_secs();
        let answer = asked.unwrap_or_else(|_| Err(format!("no answer within {seconds} s")));
        answer.map_err(|why| format!("health check {}: {why}", check.name()))?;
    }
    Ok(())
}

async fn ask(leader: &Leader, check: &HealthCheck, targets: &[TargetSpec]) -> Result<(), String> {
    match check {
        HealthCheck::Sql { query, .. } => {
            for target in targets {
                on_target(leader, target, query)
                    .await
                    .map_err(|why| format!("on {}: {why}", target.name))?;
            }
            Ok(())
        }
        HealthCheck::Http { url, status, .. } => match get(url).await?.0 {
            answered if answered == *status => Ok(()),
            answered => Err(format!("{url} answered {answered}, not {status}")),
        },
        HealthCheck::Prometheus { url, query, .. } => prometheus(url, query).await,
        HealthCheck::Command { run, .. } => command(run).await,
    }
}

async fn on_target(leader: &Leader, target: &TargetSpec, query: &str) -> Result<(), String> {
    let database = leader.world.targets.database(target).await;
    let database = database.map_err(|e| e.to_string())?;
    let statements = sql::split(database.dialect(), query).map_err(|e| e.to_string())?;
    match database.verify(&statements).await {
        Ok(VerifyOutcome::Passed) => Ok(()),
        Ok(VerifyOutcome::Failed(why)) => Err(why),
        Err(error) => Err(error.to_string()),
    }
}

async fn command(run: &str) -> Result<(), String> {
    let child = Command::new("sh")
        .args(["-c", run])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .status()
        .await;
    match child {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("the command ended with {status}")),
        Err(error) => Err(format!("cannot run the command: {error}")),
    }
}

async fn prometheus(url: &str, query: &str) -> Result<(), String> {
    let place = format!(
        "{}/api/v1/query?query={}",
        url.trim_end_matches('/'),
        encoded(query)
    );
    let (status, body) = get(&place).await?;
    let answer: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
    if status != 200 || answer["status"] != "success" {
        let error = answer["error"].as_str().unwrap_or("no error was given");
        return Err(format!("{url} answered {status}: {error}"));
    }
    let result = &answer["data"]["result"];
    let holds = match answer["data"]["resultType"].as_str() {
        Some("vector") => result.as_array().is_some_and(|samples| !samples.is_empty()),
        Some("scalar") => result[1].as_str().is_some_and(|value| value != "0"),
        Some(other) => {
            return Err(format!(
                "the query answers a {other}, not an instant vector or a scalar"
            ));
        }
        None => return Err("the answer has no result".to_owned()),
    };
    if holds {
        Ok(())
    } else {
        Err(format!("{query} does not hold"))
    }
}

/// GET over HTTP/1.1, and what it answered.
async fn get(url: &str) -> Result<(u16, Bytes), String> {
    let failed = |error: &dyn std::fmt::Display| format!("{url}: {error}");
    let uri: Uri = url.parse().map_err(|e| failed(&e))?;
    let (Some("http"), Some(host)) = (uri.scheme_str(), uri.host()) else {
        return Err(failed(
            &"only http://HOST[:PORT]/PATH is spoken; a command can do the rest",
        ));
    };
    let connection = TcpStream::connect((host.trim_matches(['[', ']']), uri.port_u16().unwrap_or(80)));
    let stream = connection.await.map_err(|e| failed(&e))?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|e| failed(&e))?;
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let request = http::Request::get(path)
        .header(
            http::header::HOST,
            uri.authority().map_or(host, |authority| authority.as_str()),
        )
        .body(Empty::<Bytes>::new())
        .map_err(|e| failed(&e))?;
    let answer = async {
        let answer = sender.send_request(request).await.map_err(|e| failed(&e))?;
        let status = answer.status().as_u16();
        let body = Limited::new(answer.into_body(), ANSWER_MAX).collect().await;
        Ok((status, body.map_err(|e| failed(&e))?.to_bytes()))
    };
    let mut answer = std::pin::pin!(answer);
    tokio::select! {
        answer = &mut answer => answer,
        // It may end before its answer was read to the end.
        _ = connection => answer.await,
    }
}

/// A text as a part of a query string.
fn encoded(text: &str) -> String {
    let byte = |b: u8| match b {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => char::from(b).to_string(),
        b => format!("%{b:02X}"),
    };
    text.bytes().map(byte).collect()
}
