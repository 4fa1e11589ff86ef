//! `lockkeeper demo` on embedded defaults: the interface of its summary, and that its promises hold.

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::Value;

/// The keys that others rely on. More may stand beside them.
const KEYS: [&str; 11] = [
    "agents",
    "regions",
    "writes_acknowledged",
    "writes_lost",
    "writes_doubled",
    "writes_failed",
    "writes_while_fenced",
    "longest_pause_ms",
    "leader_changes",
    "targets",
    "ok",
];

const TARGET_KEYS: [&str; 8] = [
    "name",
    "from",
    "to",
    "fence_ms",
    "migrate_ms",
    "verify_ms",
    "total_ms",
    "state",
];

fn demo(arguments: &[&str]) -> (Option<i32>, Value, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_lockkeeper"))
        .args(["demo", "--format", "json"])
        .args(arguments)
        .output()
        .expect("the demo starts");
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    let summary = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
    (output.status.code(), summary, stderr)
}

fn has_keys(object: &Value, keys: &[&str]) -> bool {
    let found: BTreeSet<&str> = object
        .as_object()
        .expect("an object")
        .keys()
        .map(String::as_str)
        .collect();
    keys.iter().all(|key| found.contains(key))
}

#[test]
fn a_killed_leader_costs_no_write_and_the_other_release_takes_over() {
    let (code, summary, stderr) = demo(&["--agents", "8", "--rows", "100000"]);
    assert_eq!(code, Some(0), "{summary:#}\n{stderr}");
    assert!(has_keys(&summary, &KEYS), "{summary:#}");
    for none in [
        "writes_lost",
        "writes_doubled",
        "writes_failed",
        "writes_while_fenced",
    ] {
        assert_eq!(summary[none], 0, "{none}");
    }
    assert!(summary["writes_acknowledged"].as_u64().unwrap() > 0);
    assert!(summary["leader_changes"].as_u64().unwrap() >= 1, "{stderr}");
    assert!(
        summary["fenced_reason"]
            .as_str()
            .unwrap()
            .contains("schema too new"),
        "{summary:#}"
    );
    let targets = summary["targets"].as_array().unwrap();
    let names: Vec<&str> = targets.iter().filter_map(|t| t["name"].as_str()).collect();
    assert_eq!(names, ["orders/eu-west-1", "orders/us-east-1"]);
    for target in targets {
        assert!(has_keys(target, &TARGET_KEYS), "{target:#}");
        assert_eq!(target["state"], "DONE");
        assert!(target["total_ms"].as_u64().unwrap() >= target["migrate_ms"].as_u64().unwrap());
    }
    assert!(stderr.contains("KILLED the leader"), "{stderr}");
}

#[test]
fn what_cannot_be_run_is_refused_before_anything_starts() {
    for (arguments, problem) in [
        (["--dsn", "postgres://127.0.0.1:1/demo"], "{region}"),
        (["--store", "embedded:/nowhere"], "etcd://"),
        (["--agents", "1"], "2..=400"),
    ] {
        let (code, summary, stderr) = demo(&arguments);
        assert_eq!((code, summary), (Some(2), Value::Null));
        assert!(stderr.contains(problem), "{stderr}");
    }
}
