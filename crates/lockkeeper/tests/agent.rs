//! `lockkeeper agent …` against a coordinator whose answers the tests give.

#[path = "../../lockkeeper-agent/tests/agent/fake.rs"]
#[expect(dead_code, reason = "shared with the library's tests, which use all of it")]
mod fake;

use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

use lockkeeper_proto::v1::FencedCause;
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

use fake::{Fake, TARGET, soon};

const LEASE: Duration = Duration::from_secs(30);

fn agent(subcommand: &str, fake: &Fake) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lockkeeper"));
    command
        .args(["agent", subcommand, "--server", &fake.address.to_string()])
        .args([
            "--service",
            "kratos",
            "--replica",
            "kratos-1",
            "--region",
            "eu-west-1",
        ])
        .args(["--target", &format!("{TARGET}:1..2")])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

fn run(fake: &Fake, script: &str) -> Child {
    let mut command = agent("run", fake);
    command.args(["--grace", "5s", "--", "/bin/sh", "-c", script]);
    command.spawn().expect("lockkeeper did not start")
}

async fn output(child: Child) -> (Option<i32>, String, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = soon(child.wait_with_output()).await.expect("no output");
    let text = |bytes| String::from_utf8(bytes).expect("not a text");
    (status.code(), text(stdout), text(stderr))
}

fn terminate(child: &Child) {
    let id = child
        .id()
        .and_then(|id| i32::try_from(id).ok())
        .and_then(Pid::from_raw)
        .expect("it has ended");
    kill_process(id, Signal::TERM).expect("it cannot be signalled");
}

async fn lines(file: &Path, count: usize) -> Vec<String> {
    soon(async {
        loop {
            let text = std::fs::read_to_string(file).unwrap_or_default();
            if text.lines().count() >= count {
                return text.lines().map(str::to_owned).collect();
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
}

#[tokio::test]
async fn the_program_stops_before_the_ack_and_starts_again_after_the_opening() {
    let mut fake = Fake::start().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("seen");
    // The second start ends by itself; the first takes a moment to end when asked.
    let script = format!(
        "trap 'sleep 0.3; echo stopped >> {0}; exit 0' TERM; echo started >> {0}; \
         [ $(wc -l < {0}) -gt 1 ] && exit 5; while :; do sleep 0.01; done",
        file.display()
    );
    let child = run(&fake, &script);
    let mut stream = fake.stream().await;
    stream.grant_next(7, LEASE).await;
    assert_eq!(lines(&file, 1).await, ["started"]);
    stream.fence(8, FencedCause::GateClosed);
    let (drained, _) = stream.next_drained().await;
    assert_eq!(drained.gate_epoch, 8);
    assert_eq!(
        lines(&file, 2).await,
        ["started", "stopped"],
        "acked before the program had ended"
    );
    stream.open(8);
    stream.grant_next(8, LEASE).await;
    let (code, stdout, stderr) = output(child).await;
    assert_eq!(code, Some(5), "{stderr}");
    assert_eq!(stdout, "");
    assert!(
        stderr.contains("gate closed at g8 by rollout r-1: a test says so"),
        "{stderr}"
    );
    assert_eq!(lines(&file, 3).await.len(), 3);
}

#[tokio::test]
async fn a_program_that_does_not_end_is_killed_before_its_lease_ends() {
    let mut fake = Fake::start().await;
    let child = run(&fake, "trap '' TERM; echo up; while :; do sleep 0.01; done");
    let stream = fake.stream().await;
    stream.grant(7, 0, Duration::from_secs(3));
    let began = tokio::time::Instant::now();
    drop(stream);
    fake.crash().await;
    // Nothing answers any more: the program is gone by the lease's end, and lockkeeper goes on looking.
    let child_gone = async {
        let mut child = child;
        let mut stderr = tokio::io::BufReader::new(child.stderr.take().expect("piped"));
        let mut seen = String::new();
        while !seen.contains("was killed") {
            let read = tokio::io::AsyncBufReadExt::read_line(&mut stderr, &mut seen)
                .await
                .expect("no stderr");
            assert!(read > 0, "lockkeeper ended: {seen}");
        }
        (child, seen)
    };
    let (mut child, stderr) = soon(child_gone).await;
    assert!(
        began.elapsed() < Duration::from_millis(3_500),
        "killed only after {:?}",
        began.elapsed()
    );
    assert!(
        stderr.contains("no coordinator renews the write lease"),
        "{stderr}"
    );
    assert!(child.try_wait().unwrap().is_none());
    terminate(&child);
    child.stderr = None;
    assert_eq!(soon(child.wait()).await.unwrap().code(), Some(143));
}

#[tokio::test]
async fn a_program_whose_lease_ran_out_starts_again_with_a_new_lease_and_not_with_the_rest() {
    let mut fake = Fake::start().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("seen");
    let script = format!(
        "trap 'exit 0' TERM; echo up >> {}; while :; do sleep 0.01; done",
        file.display()
    );
    let child = run(&fake, &script);
    let mut stream = fake.stream().await;
    stream.grant(7, 0, Duration::from_secs(3));
    // The program ends as soon as it is asked, which leaves about 0.6 s of the lease.
    let began = tokio::time::Instant::now();
    lines(&file, 1).await;
    tokio::time::sleep_until(began + Duration::from_millis(2_900)).await;
    assert_eq!(
        lines(&file, 1).await.len(),
        1,
        "started again with the rest of a lease"
    );
    // The agent has turned to a new stream meanwhile, since this one answered no renewal.
    stream = fake.stream().await;
    stream.grant_next(7, LEASE).await;
    assert_eq!(lines(&file, 2).await.len(), 2);
    terminate(&child);
    drop(stream);
    let (code, _, stderr) = output(child).await;
    assert_eq!(code, Some(0), "{stderr}");
}

#[tokio::test]
async fn sigterm_is_forwarded_and_the_agent_says_farewell() {
    let mut fake = Fake::start().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("seen");
    let script = format!(
        "trap 'exit 9' TERM; echo on stdout; echo up >> {}; while :; do sleep 0.01; done",
        file.display()
    );
    let child = run(&fake, &script);
    let mut stream = fake.stream().await;
    stream.grant_next(7, LEASE).await;
    lines(&file, 1).await;
    terminate(&child);
    // It leaves: nothing of g7 is out any more, so it acks as if the gate had been closed above it.
    assert_eq!(stream.next_drained().await.0.gate_epoch, 8);
    assert_eq!(stream.next().await, None);
    drop(stream);
    let (code, stdout, stderr) = output(child).await;
    assert_eq!((code, stdout.as_str()), (Some(9), "on stdout\n"), "{stderr}");
}

#[tokio::test]
async fn a_program_that_cannot_be_started_is_a_usage_error() {
    let mut fake = Fake::start().await;
    let child = agent("run", &fake)
        .args(["--", "/nowhere/kratos"])
        .spawn()
        .unwrap();
    let mut stream = fake.stream().await;
    stream.grant_next(7, LEASE).await;
    drop(stream.keep_granting(7, LEASE));
    let (code, _, stderr) = output(child).await;
    assert_eq!(code, Some(2));
    assert!(
        stderr.contains("error: start /nowhere/kratos: No such file or directory"),
        "{stderr}"
    );
}

#[tokio::test]
async fn a_superseded_agent_ends_its_program_and_itself() {
    let mut fake = Fake::start().await;
    let child = run(&fake, "while :; do sleep 0.01; done");
    let mut stream = fake.stream().await;
    stream.grant_next(7, LEASE).await;
    stream.end(tonic::Status::aborted("a newer start has registered"));
    let (code, _, stderr) = output(child).await;
    assert_eq!(code, Some(7), "{stderr}");
    assert!(stderr.contains("give each its own --replica"), "{stderr}");
}

#[tokio::test]
async fn wait_prints_what_is_open() {
    let mut fake = Fake::start().await;
    let child = agent("wait", &fake).args(["--format", "json"]).spawn().unwrap();
    let stream = fake.stream().await;
    stream.fence(7, FencedCause::SchemaTooOld);
    stream.open(8);
    drop(stream);
    let (code, stdout, stderr) = output(child).await;
    assert_eq!(code, Some(0), "{stderr}");
    assert_eq!(
        stdout,
        "{\"targets\":[{\"name\":\"kratos/eu-west-1\",\"version\":\"2\",\"gate_epoch\":8}]}\n"
    );
    assert!(
        stderr.contains("kratos/eu-west-1: schema too old at g7 by rollout r-1: a test says so"),
        "{stderr}"
    );
}

#[tokio::test]
async fn wait_times_out_with_the_reason() {
    let mut fake = Fake::start().await;
    let child = agent("wait", &fake).args(["--timeout", "1s"]).spawn().unwrap();
    let stream = fake.stream().await;
    stream.fence(7, FencedCause::GateClosed);
    let (code, _, stderr) = output(child).await;
    assert_eq!(code, Some(6));
    assert!(
        stderr.contains("within 1s: kratos/eu-west-1: gate closed at g7"),
        "{stderr}"
    );
}

#[tokio::test]
async fn wrong_flags_are_usage_errors() {
    let fake = Fake::start().await;
    for (flag, value, problem) in [
        ("--target", "kratos:1..=2", "is no range of versions"),
        ("--target", "a//b", "target name"),
        ("--server", "https://h:1", "only http:// is supported"),
        ("--target", "kratos/eu-west-1", "is given twice"),
    ] {
        let child = agent("wait", &fake).args([flag, value]).spawn().unwrap();
        let (code, _, stderr) = output(child).await;
        assert_eq!(code, Some(2), "{stderr}");
        assert!(stderr.contains(problem), "{stderr}");
    }
}
