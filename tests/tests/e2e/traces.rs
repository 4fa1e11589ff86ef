//! One rollout is one trace, over every process that had a part in it; and no log, span or record holds a password.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lockkeeper_tests::cli::Cli;
use lockkeeper_tests::etcd::{EtcdCluster, EtcdRelease};
use lockkeeper_tests::ports::Port;
use lockkeeper_tests::postgres::{APP_PASSWORD, Postgres};
use lockkeeper_tests::wait;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::trace::v1::Span;
use serde_json::json;
use tonic::{Request, Response, Status};

use crate::fleet::{Fleet, TargetDeclaration, target_state};
use crate::small::{REGION, write_files};

const LIMIT: Duration = Duration::from_secs(30);

/// The three that follow upon each other take a while, so that the leader can be killed in the middle.
const FILES: [(&str, &str); 4] = [
    ("1_items.up.sql", "CREATE TABLE items (id INTEGER PRIMARY KEY);"),
    ("1_items.down.sql", "DROP TABLE items;"),
    (
        "2_slow.up.sql",
        "CREATE TABLE slow (id INTEGER PRIMARY KEY); SELECT pg_sleep(2);",
    ),
    ("2_slow.down.sql", "DROP TABLE slow;"),
];

/// A collector that keeps what it is sent.
#[derive(Debug, Clone, Default)]
struct Collector {
    spans: Arc<Mutex<Vec<Span>>>,
}

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let resources = request.into_inner().resource_spans.into_iter();
        let spans = resources.flat_map(|r| r.scope_spans).flat_map(|s| s.spans);
        self.spans
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend(spans);
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Collector {
    /// Serves until the runtime ends.
    fn start(runtime: &tokio::runtime::Runtime, port: &Port) -> Collector {
        let collector = Collector::default();
        let address = SocketAddr::from(([127, 0, 0, 1], port.number()));
        let service = TraceServiceServer::new(collector.clone());
        runtime.spawn(
            tonic::transport::Server::builder()
                .add_service(service)
                .serve(address),
        );
        collector
    }

    fn spans(&self) -> Vec<Span> {
        self.spans.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn attribute<'a>(span: &'a Span, name: &str) -> Option<&'a str> {
    let found = span.attributes.iter().find(|attribute| attribute.key == name)?;
    match found.value.as_ref()?.value.as_ref()? {
        Any::StringValue(text) => Some(text),
        _ => None,
    }
}

/// What the processes of a traced fleet are told.
fn settings(collector: &Port) -> [(&'static str, String); 3] {
    [
        (
            "OTEL_EXPORTER_OTLP_ENDPOINT",
            format!("http://{}", collector.address()),
        ),
        ("OTEL_BSP_SCHEDULE_DELAY", "100".to_owned()),
        ("LOCKKEEPER_LOG", "debug".to_owned()),
    ]
}

fn traced(cli: Cli, settings: &[(&'static str, String)]) -> Cli {
    settings
        .iter()
        .fold(cli, |cli, (name, value)| cli.env(name, value))
}

#[test]
fn one_rollout_is_one_trace_over_a_change_of_leaders_and_nothing_tells_a_password() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let port = Port::reserve()?;
    let collector = Collector::start(&runtime, &port);
    let settings = settings(&port);
    let (etcd, server) = (EtcdCluster::start(1, EtcdRelease::V3_5)?, Postgres::start()?);
    let mut fleet = Fleet::start_with(&etcd.store_url(), &[REGION, REGION], &settings)?;
    let migrations = fleet.path("migrations");
    write_files(&migrations, &FILES)?;
    server.create_database("svc")?;
    let dsn = server.app_dsn("svc");
    ensure!(
        dsn.contains(APP_PASSWORD),
        "a DSN without a password shows nothing"
    );
    fleet.declare(&[TargetDeclaration::new("svc", REGION, &dsn, &migrations)])?;
    let agent = traced(fleet.cli()?, &settings)
        .args([
            "agent",
            "run",
            "--service",
            "svc",
            "--region",
            REGION,
            "--replica",
            "r1",
        ])
        .args(["--target", "svc/eu", "--", "sleep", "60"])
        .spawn()?;

    let leader = fleet.wait_for_leader()?;
    let follower = fleet.addresses().swap_remove(1 - leader);
    let file = fleet.rollout_file("svc", "latest", &[REGION], &json!({}))?;
    let create = traced(Cli::new()?, &settings).env("LOCKKEEPER_SERVER", follower);
    let create = create
        .args(["rollout", "create", "--wait", "--id", "traced", "-f"])
        .arg(file)
        .spawn()?;
    wait::until("the rollout", LIMIT, || Ok(fleet.rollout("traced").ok()))?;
    let watch = fleet.watch("traced", Some(leader))?;
    watch.wait_until("the migrations to run", LIMIT, |rollout| {
        target_state(rollout, "svc/eu") == "MIGRATING"
    })?;
    // What the first leader did so far is exported by now.
    let fenced = |span: &Span| attribute(span, "command") == Some("Fence");
    wait::until("the first leader's spans", LIMIT, || {
        Ok(collector.spans().iter().any(fenced).then_some(()))
    })?;
    fleet.kill(leader)?;
    let mut create = create;
    let status = create.process.wait(LIMIT).with_context(|| fleet.logs(20))?;
    ensure!(status.success(), "{status}: {}", create.process.log());

    // Spans are told when they end, the command's and the second leader's last.
    for name in ["lockkeeper rollout", "rollout", "fenced"] {
        wait::until(&format!("the span {name}"), LIMIT, || {
            Ok(collector
                .spans()
                .iter()
                .any(|span| span.name == name)
                .then_some(()))
        })?;
    }
    one_trace(&collector.spans())?;

    let mut told = format!("{:?}", collector.spans());
    for coordinator in fleet.coordinators() {
        told += &coordinator.log();
    }
    told += &(create.process.log() + &create.process.output() + &agent.process.log());
    told += &etcd.etcdctl(&["get", "", "--prefix"])?;
    ensure!(told.contains("svc/eu"), "nothing was told at all");
    let leak = told
        .find(APP_PASSWORD)
        .map(|at| told[at.saturating_sub(400)..at].to_owned());
    ensure!(leak.is_none(), "the password follows upon: {leak:?}");
    Ok(())
}

/// The command, both coordinators and every step of both leaders are in one trace, and each is its parent's child.
fn one_trace(spans: &[Span]) -> Result<()> {
    let root = spans
        .iter()
        .find(|span| span.name == "lockkeeper rollout")
        .context("no span of the command")?;
    let ours: Vec<&Span> = spans
        .iter()
        .filter(|span| span.trace_id == root.trace_id)
        .collect();
    let names: BTreeSet<&str> = ours.iter().map(|span| span.name.as_str()).collect();
    let calls = ours
        .iter()
        .filter(|span| span.name == "/lockkeeper.v1.RolloutService/CreateRollout")
        .count();
    // The follower's and the leader's; and the agent's fence.
    ensure!(
        calls == 2 && names.contains("rollout") && names.contains("fenced"),
        "{names:?}"
    );
    let steps: BTreeSet<&str> = ours
        .iter()
        .filter_map(|span| attribute(span, "command"))
        .collect();
    for step in ["Preflight", "Fence", "Migrate", "Verify(New)", "Open(New)"] {
        ensure!(steps.contains(step), "{step} is missing: {steps:?}");
    }
    let elsewhere = spans
        .iter()
        .filter(|span| span.name == "step" && span.trace_id != root.trace_id)
        .count();
    ensure!(elsewhere == 0, "{elsewhere} steps are in other traces");
    let known: BTreeMap<&[u8], &str> = ours
        .iter()
        .map(|span| (&span.span_id[..], span.name.as_str()))
        .collect();
    for call in ours
        .iter()
        .filter(|span| span.name.starts_with("/lockkeeper.v1.RolloutService/"))
    {
        ensure!(
            known.contains_key(&call.parent_span_id[..]),
            "{} has no parent",
            call.name
        );
    }
    // What libraries trace of themselves would drown it, and exporting it would make more of it.
    let noise: BTreeSet<&str> = spans
        .iter()
        .map(|span| span.name.as_str())
        .filter(|name| !name.starts_with("lockkeeper ") && !name.starts_with('/'))
        .filter(|name| !["rollout", "step", "fenced"].contains(name))
        .collect();
    ensure!(noise.is_empty(), "{noise:?}");
    Ok(())
}
