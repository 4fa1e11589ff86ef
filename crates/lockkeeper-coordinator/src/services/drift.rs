//! Which targets are alike, and how the others differ: ledgers and schemas as they are now. Nothing is changed.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::Duration;

use futures::StreamExt;
use lockkeeper_core::id::ServiceName;
use lockkeeper_core::spec::TargetSpec;
use lockkeeper_core::version::SchemaVersion;
use lockkeeper_migrate::fingerprint::{Change, Difference, Fingerprint, PropertyChange, Schema, diff};
use lockkeeper_migrate::plan;
use lockkeeper_proto::convert::version_text;
use lockkeeper_proto::v1;

use crate::leader::access::Targets;

/// How many targets are looked at at a time: hundreds may live on one server.
const LOOKS_MAX: usize = 16;

/// How long the look at one target may take.
const LOOK_TIMEOUT: Duration = Duration::from_secs(10);

/// One target as it is.
#[derive(Debug)]
struct Seen {
    name: String,
    service: ServiceName,
    version: Option<SchemaVersion>,
    schema: Schema,
}

/// What makes targets alike.
type Likeness = (ServiceName, Option<SchemaVersion>, Fingerprint);

/// Compares targets with those of their own service.
pub async fn compare(targets: &dyn Targets, specs: Vec<TargetSpec>) -> v1::CompareTargetsResponse {
    let looks = specs.into_iter().map(|spec| async move {
        let name = spec.name.to_string();
        let look = tokio::time::timeout(LOOK_TIMEOUT, look(targets, &spec)).await;
        let late = || Err(format!("no answer within {} s", LOOK_TIMEOUT.as_secs()));
        look.unwrap_or_else(|_| late())
            .map_err(|reason| v1::UnseenTarget { target: name, reason })
    });
    let outcomes: Vec<_> = futures::stream::iter(looks)
        .buffer_unordered(LOOKS_MAX)
        .collect()
        .await;
    let (mut seen, mut unseen) = (Vec::new(), Vec::new());
    for outcome in outcomes {
        match outcome {
            Ok(target) => seen.push(target),
            Err(target) => unseen.push(target),
        }
    }
    unseen.sort_by(|a, b| a.target.cmp(&b.target));
    v1::CompareTargetsResponse {
        groups: groups(seen),
        unseen,
    }
}

async fn look(targets: &dyn Targets, spec: &TargetSpec) -> Result<Seen, String> {
    let database = targets.database(spec).await.map_err(|e| e.to_string())?;
    let migrations = targets.migrations(spec, database.as_ref()).await;
    let migrations = migrations.map_err(|e| e.to_string())?;
    let inspection = database.inspect().await.map_err(|e| e.to_string())?;
    let plan = plan::plan(&migrations.set, &inspection.ledger, &plan::Goal::Latest);
    Ok(Seen {
        name: spec.name.to_string(),
        service: spec.service.clone(),
        version: plan.map_err(|e| e.to_string())?.from,
        schema: database.schema().await.map_err(|e| e.to_string())?,
    })
}

fn groups(mut seen: Vec<Seen>) -> Vec<v1::TargetGroup> {
    seen.sort_by(|a, b| a.name.cmp(&b.name));
    let mut alike = BTreeMap::<Likeness, Vec<Seen>>::new();
    for target in seen {
        let likeness = (
            target.service.clone(),
            target.version.clone(),
            target.schema.fingerprint(),
        );
        alike.entry(likeness).or_default().push(target);
    }
    let mut groups: Vec<(Likeness, Vec<Seen>)> = alike.into_iter().collect();
    groups.sort_by_key(|((service, version, _), targets)| {
        (service.clone(), Reverse(targets.len()), Reverse(version.clone()))
    });
    let mut first: Option<(&ServiceName, &Schema)> = None;
    let mut messages = Vec::with_capacity(groups.len());
    for ((service, version, fingerprint), targets) in &groups {
        let schema = &targets[0].schema;
        let usual = first.filter(|(of, _)| *of == service).map(|(_, usual)| usual);
        if usual.is_none() {
            first = Some((service, schema));
        }
        messages.push(v1::TargetGroup {
            service: service.to_string(),
            version: version_text(version.as_ref()),
            fingerprint: fingerprint.as_str().to_owned(),
            targets: targets.iter().map(|t| t.name.clone()).collect(),
            differences: usual.map_or_else(Vec::new, |usual| differences(usual, schema)),
        });
    }
    messages
}

fn differences(usual: &Schema, schema: &Schema) -> Vec<v1::SchemaDifference> {
    diff(usual, schema).differences.iter().map(difference).collect()
}

fn difference(difference: &Difference) -> v1::SchemaDifference {
    let (change, properties) = match &difference.change {
        Change::Added { .. } => ("extra", Vec::new()),
        Change::Removed { .. } => ("missing", Vec::new()),
        Change::Changed { properties } => ("changed", properties.iter().map(property).collect()),
    };
    v1::SchemaDifference {
        object: difference.object.to_string(),
        change: change.to_owned(),
        properties,
    }
}

fn property(change: &PropertyChange) -> String {
    let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "none".to_owned());
    format!(
        "{}: {} -> {}",
        change.property,
        text(&change.from),
        text(&change.to)
    )
}
