//! The API, as somebody sees it who has none of our code: through grpcurl and reflection.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use lockkeeper_tests::etcd::{EtcdCluster, EtcdRelease};
use lockkeeper_tests::grpcurl::Grpcurl;
use lockkeeper_tests::{tools, wait};
use serde_json::{Value, json};

use crate::client::Client;
use crate::fleet::{Fleet, TargetDeclaration};
use crate::small::{Databases, REGION, SmallFleet, write_files};

const LIMIT: Duration = Duration::from_secs(20);
const REGISTER: &str = "lockkeeper.v1.AgentService/RegisterAndWait";
const STATUS: &str = "lockkeeper.v1.FleetService/GetStatus";
const HEALTH: &str = "grpc.health.v1.Health/Check";

const FILES: [(&str, &str); 6] = [
    ("1_items.up.sql", "CREATE TABLE items (id INTEGER PRIMARY KEY);"),
    ("1_items.down.sql", "DROP TABLE items;"),
    ("2_notes.up.sql", "CREATE TABLE notes (id INTEGER PRIMARY KEY);"),
    ("2_notes.down.sql", "DROP TABLE notes;"),
    ("3_tags.up.sql", "CREATE TABLE tags (id INTEGER PRIMARY KEY);"),
    ("3_tags.down.sql", "DROP TABLE tags;"),
];

/// Two starts of one replica, in the order of their ids.
const OLDER: &str = "01900000-0000-7000-8000-000000000001";
const NEWER: &str = "01900000-0001-7000-8000-000000000001";

/// The first message of a replica that needs exactly `version`.
fn register(incarnation: &str, version: &str) -> Value {
    json!({"register": {
        "service": "svc", "replica": "replica-1", "region": REGION, "incarnation": incarnation, "release": "7.1",
        "targets": [{"name": "svc/eu", "min_version": version, "max_version": version}],
    }})
}

/// grpcurl with its messages on standard input, so that a stream stays open as long as the input does.
fn stream(address: &str, method: &str) -> Result<Client> {
    let mut command = Command::new(tools::find("grpcurl")?);
    command.args(["-plaintext", "-d", "@", address, method]);
    Client::start(command)
}

/// The command of the manual: the message is an argument, and no other follows.
fn waiter(address: &str, message: &Value) -> Result<Client> {
    let mut command = Command::new(tools::find("grpcurl")?);
    command.args(["-plaintext", "-d", &message.to_string(), address, REGISTER]);
    Client::start(command)
}

/// A fleet of one whose database `svc` is at version 1.
fn at_version_one() -> Result<(SmallFleet, Databases)> {
    let (fleet, databases) = (SmallFleet::start()?, Databases::sqlite()?);
    let migrations = fleet.migrations("migrations", &FILES)?;
    fleet.declare_one("svc", &databases.create("svc")?, &migrations)?;
    fleet.roll_out("first", "svc", "1", &json!({}))?.expect_code(0)?;
    Ok((fleet, databases))
}

#[test]
fn register_and_wait_prints_states_and_ends_when_open() -> Result<()> {
    let (fleet, _databases) = at_version_one()?;
    let address = fleet.address();
    // Of the next release: what it needs is not there yet.
    let mut next = waiter(&address, &register(NEWER, "2"))?;
    let said = next.wait_for("FENCED_CAUSE_SCHEMA_TOO_OLD")?;
    ensure!(
        said.contains("at version 1, which is older than this release needs"),
        "{said}"
    );

    // The gate stays closed until somebody mends the check.
    let folder = fleet.migrations("migrations", &[("verify/2_check.sql", "SELECT 1 = 2;")])?;
    fleet
        .roll_out("second", "svc", "2", &json!({"on_failure": "hold"}))?
        .expect_code(5)?;
    let said = next.wait_for("FENCED_CAUSE_GATE_CLOSED")?;
    ensure!(said.contains("svc/eu is closed by rollout second"), "{said}");
    // Who joins now is fenced from the start.
    let mut late = waiter(
        &address,
        &json!({"register": {
            "service": "svc", "replica": "late", "targets": [{"name": "svc/eu"}],
        }}),
    )?;
    late.wait_for("FENCED_CAUSE_GATE_CLOSED")?;
    ensure!(!next.output().contains("opened") && !late.output().contains("opened"));

    write_files(&folder, &[("verify/2_check.sql", "SELECT 1 = 1;")])?;
    fleet.run(&["rollout", "retry", "second"])?.expect_code(0)?;
    for client in [&mut next, &mut late] {
        let (status, said) = client.wait()?;
        ensure!(status.success(), "{status}: {said}");
        let last = messages(&said)?.pop().context("nothing was said")?;
        ensure!(
            last["opened"]["target"] == "svc/eu" && last["opened"]["version"] == "2",
            "{said}"
        );
    }
    // Whom the open gate fits is answered at once.
    let answers = Grpcurl::new(&address).call(REGISTER, &register(NEWER, "2"))?;
    ensure!(
        answers
            .last()
            .is_some_and(|last| last["opened"]["version"] == "2"),
        "{answers:?}"
    );
    Ok(())
}

fn messages(said: &str) -> Result<Vec<Value>> {
    let all = serde_json::Deserializer::from_str(said).into_iter::<Value>();
    all.collect::<Result<_, _>>()
        .with_context(|| format!("read messages from {said}"))
}

#[test]
fn every_coordinator_answers_and_describes_itself() -> Result<()> {
    let etcd = EtcdCluster::start(1, EtcdRelease::V3_5)?;
    let fleet = Fleet::start(&etcd.store_url(), &[REGION, REGION, REGION])?;
    let databases = Databases::sqlite()?;
    let folder = fleet.path("migrations");
    write_files(&folder, &FILES)?;
    fleet.declare(&[TargetDeclaration::new(
        "svc",
        REGION,
        &databases.create("svc")?,
        &folder,
    )])?;
    for address in fleet.addresses() {
        let grpcurl = Grpcurl::new(&address);
        let status = wait::until(&format!("{address} to know the target"), LIMIT, || {
            let status = grpcurl.call(STATUS, &json!({}))?.pop().unwrap_or_default();
            Ok((status["targets"][0]["gate"] == "GATE_STATE_OPEN").then_some(status))
        })?;
        let coordinators = status["coordinators"].as_array().map_or(0, Vec::len);
        let leader = status["leader"]["epoch"].as_str().unwrap_or_default();
        ensure!(coordinators == 3 && leader.starts_with('e'), "{status}");
        ensure!(status["targets"][0]["strength"] == "STRENGTH_BARRIER", "{status}");

        let services = grpcurl.services()?;
        for service in ["AgentService", "FleetService", "RolloutService"] {
            let service = format!("lockkeeper.v1.{service}");
            ensure!(services.contains(&service), "{services:?}");
            let healthy = grpcurl.call(HEALTH, &json!({"service": service}))?;
            ensure!(
                healthy == [json!({"status": "SERVING"})],
                "{service}: {healthy:?}"
            );
        }
        ensure!(grpcurl.call(HEALTH, &json!({}))? == [json!({"status": "SERVING"})]);
        let described = describe(&address, "lockkeeper.v1.AgentService")?;
        ensure!(described.contains("rpc RegisterAndWait"), "{described}");
    }
    Ok(())
}

fn describe(address: &str, symbol: &str) -> Result<String> {
    let output = Command::new(tools::find("grpcurl")?)
        .args(["-plaintext", address, "describe", symbol])
        .output()
        .context("run grpcurl describe")?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(
        output.status.success(),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(said)
}

/// Calls with one message that must be refused.
fn refused(address: &str, method: &str, message: &str, words: &[&str]) -> Result<()> {
    let mut client = stream(address, method)?;
    client.write(message)?;
    let (status, said) = client.end()?;
    ensure!(!status.success(), "{method} took {message:.100}: {said}");
    for word in words {
        ensure!(
            said.contains(word),
            "{method} of {message:.100} lacks {word:?}: {said}"
        );
    }
    Ok(())
}

#[test]
fn messages_that_cannot_be_used_are_refused_and_the_server_lives_on() -> Result<()> {
    let (fleet, _databases) = at_version_one()?;
    let address = fleet.address();
    let before = fleet.status()?;
    let refused = |method: &str, message: &str, words: &[&str]| refused(&address, method, message, words);
    // Of the message's form grpcurl itself is the judge, with what reflection tells it.
    refused(REGISTER, "{\"register\": {", &["unexpected EOF"])?;
    refused(REGISTER, "{\"register\": {\"replicas\": 1}}", &["replicas"])?;
    refused(
        REGISTER,
        "",
        &["InvalidArgument", "the first message must be `register`"],
    )?;
    refused(
        REGISTER,
        "{\"renew\": {\"sequence\": 1}}",
        &["InvalidArgument", "the first message must be `register`"],
    )?;
    for (changes, words) in [
        (json!({"service": ""}), ["register.service", "InvalidArgument"]),
        (json!({"replica": ""}), ["replica", "InvalidArgument"]),
        (json!({"replica": "a b"}), ["replica", "InvalidArgument"]),
        (
            json!({"incarnation": "7"}),
            ["register.incarnation", "InvalidArgument"],
        ),
        (json!({"targets": []}), ["register.targets", "InvalidArgument"]),
        (
            json!({"targets": [{"name": "a//b"}]}),
            ["register.targets[0]", "InvalidArgument"],
        ),
    ] {
        let mut message = register(NEWER, "1");
        for (field, value) in changes.as_object().into_iter().flatten() {
            message["register"][field] = value.clone();
        }
        refused(REGISTER, &message.to_string(), &words)?;
    }
    refused(
        "lockkeeper.v1.FleetService/Explain",
        "{\"target\": \"nobody/eu\"}",
        &["NotFound", "nobody/eu"],
    )?;
    refused(
        "lockkeeper.v1.RolloutService/GetRollout",
        "{\"id\": \"nothing\"}",
        &["NotFound", "nothing"],
    )?;

    let mut oversized = register(NEWER, "1");
    oversized["register"]["release"] = Value::String("x".repeat(5 * 1024 * 1024));
    refused(REGISTER, &oversized.to_string(), &["message length too large"])?;
    let oversized = json!({"id": "x".repeat(5 * 1024 * 1024)}).to_string();
    refused(
        "lockkeeper.v1.RolloutService/GetRollout",
        &oversized,
        &["message length too large"],
    )?;

    let after = fleet.status()?;
    ensure!(
        before["leader"] == after["leader"] && before["targets"] == after["targets"],
        "{before} became {after}"
    );
    Ok(())
}

#[tokio::test]
async fn bytes_that_are_no_message_are_refused_and_the_server_lives_on() -> Result<()> {
    let fleet = tokio::task::spawn_blocking(SmallFleet::start).await??;
    let channel = tonic::transport::Endpoint::from_shared(format!("http://{}", fleet.address()))?
        .connect()
        .await?;
    for method in [STATUS, "lockkeeper.v1.RolloutService/CreateRollout", REGISTER] {
        let path = format!("/{method}").parse::<tonic::codegen::http::uri::PathAndQuery>()?;
        let mut client = tonic::client::Grpc::new(channel.clone());
        client.ready().await?;
        // Field 1, announced with far more bytes than follow.
        let garbage = tonic::Request::new(vec![0x0a, 0xff, 0xff, 0xff, 0x7f, 1, 2, 3]);
        let answer = client.unary(garbage, path, RawCodec).await;
        let status = answer.err().ok_or_else(|| anyhow!("{method} took garbage"))?;
        ensure!(
            matches!(
                status.code(),
                tonic::Code::InvalidArgument | tonic::Code::Internal
            ) && status.message().contains("decode"),
            "{method}: {status:?}"
        );
    }
    let status = tokio::task::spawn_blocking(move || fleet.status()).await??;
    ensure!(status["leader"]["coordinator"] == "c0", "{status}");
    Ok(())
}

/// Bytes as they are.
#[derive(Debug, Clone, Copy)]
struct RawCodec;

impl tonic::codec::Codec for RawCodec {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = RawCodec;
    type Decoder = RawCodec;

    fn encoder(&mut self) -> RawCodec {
        RawCodec
    }

    fn decoder(&mut self) -> RawCodec {
        RawCodec
    }
}

impl tonic::codec::Encoder for RawCodec {
    type Item = Vec<u8>;
    type Error = tonic::Status;

    fn encode(
        &mut self,
        item: Vec<u8>,
        buffer: &mut tonic::codec::EncodeBuf<'_>,
    ) -> Result<(), tonic::Status> {
        prost::bytes::BufMut::put_slice(buffer, &item);
        Ok(())
    }
}

impl tonic::codec::Decoder for RawCodec {
    type Item = Vec<u8>;
    type Error = tonic::Status;

    fn decode(&mut self, buffer: &mut tonic::codec::DecodeBuf<'_>) -> Result<Option<Vec<u8>>, tonic::Status> {
        let length = prost::bytes::Buf::remaining(buffer);
        Ok(Some(prost::bytes::Buf::copy_to_bytes(buffer, length).to_vec()))
    }
}

#[test]
fn the_newer_incarnation_wins_and_the_older_is_fenced() -> Result<()> {
    let etcd = EtcdCluster::start(1, EtcdRelease::V3_5)?;
    let fleet = Fleet::start(&etcd.store_url(), &[REGION, REGION])?;
    let databases = Databases::sqlite()?;
    let folder = fleet.path("migrations");
    write_files(&folder, &FILES)?;
    fleet.declare(&[TargetDeclaration::new(
        "svc",
        REGION,
        &databases.create("svc")?,
        &folder,
    )])?;
    fleet.create_rollout("first", "svc", "1", &[REGION], &json!({}))?;
    fleet.wait_for_rollout("first", LIMIT)?;
    let addresses = fleet.addresses();
    // On the same coordinator, and on another one.
    for (replica, address) in addresses.iter().enumerate() {
        let register = |incarnation| {
            let mut message = register(incarnation, "1");
            message["register"]["replica"] = json!(format!("replica-{replica}"));
            message.to_string()
        };
        let mut older = stream(&addresses[0], REGISTER)?;
        older.write(&register(OLDER))?;
        older.write("{\"renew\": {\"sequence\": 1}}")?;
        older.wait_for("granted")?;
        let mut newer = stream(address, REGISTER)?;
        newer.write(&register(NEWER))?;
        newer.write("{\"renew\": {\"sequence\": 1}}")?;
        newer.wait_for("granted")?;
        wait::until("the older incarnation to be gone", LIMIT, || {
            let agents = fleet.agents()?;
            let is = |agent: &Value, start: &str| agent["incarnation"] == start;
            Ok(
                (agents.iter().any(|agent| is(agent, NEWER)) && !agents.iter().any(|agent| is(agent, OLDER)))
                    .then_some(()),
            )
        })?;
        // grpcurl tells its end only when its input has ended too.
        let (status, said) = older.end()?;
        ensure!(!status.success() && said.contains("Code: Aborted"), "{said}");
        ensure!(
            said.contains("a newer incarnation of this replica has registered"),
            "{said}"
        );

        let mut again = stream(address, REGISTER)?;
        again.write(&register(OLDER))?;
        let (_, said) = again.end()?;
        ensure!(
            said.contains("Code: Aborted") && !said.contains("granted"),
            "{said}"
        );
        newer.write("{\"renew\": {\"sequence\": 2}}")?;
        newer.wait_for("\"sequence\": \"2\"")?;
        newer.end()?;
    }
    Ok(())
}
