//! The schemas of targets.yaml and rollout.yaml say what the program reads: the same fields, and the same verdict on files

//! that can and cannot be used.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, also in its helper functions"
)]

use std::collections::BTreeSet;
use std::path::Path;

use boon::{Compiler, Schemas};
use lockkeeper_core::spec::{
    Freeze, MigrationsSpec, RolloutSpec, RowInvariant, TargetSpec, TargetsFile, WaveSpec, WindowSpec,
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

fn schema(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../docs/schema")
        .join(name);
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn accepts(name: &str, file: &Value) -> bool {
    let place = format!("http://localhost/{name}");
    let mut compiler = Compiler::new();
    compiler.add_resource(&place, schema(name)).unwrap();
    let mut schemas = Schemas::new();
    let compiled = compiler.compile(&place, &mut schemas).unwrap();
    schemas.validate(file, compiled).is_ok()
}

/// The fields that a type reads: what it says when it is given another.
fn fields<T: DeserializeOwned>() -> BTreeSet<String> {
    let unknown = serde_json::from_value::<T>(json!({"?": null}))
        .err()
        .unwrap()
        .to_string();
    let (_, expected) = unknown.split_once("expected ").unwrap();
    expected
        .split('`')
        .skip(1)
        .step_by(2)
        .map(ToOwned::to_owned)
        .collect()
}

fn properties(schema: &Value, pointer: &str) -> BTreeSet<String> {
    let found = schema.pointer(pointer).and_then(Value::as_object);
    found
        .unwrap_or_else(|| panic!("no {pointer}"))
        .keys()
        .cloned()
        .collect()
}

#[test]
fn the_fields_are_those_that_are_read() {
    let (targets, rollout) = (schema("targets.json"), schema("rollout.json"));
    assert_eq!(properties(&targets, "/properties"), fields::<TargetsFile>());
    assert_eq!(
        properties(&targets, "/$defs/target/properties"),
        fields::<TargetSpec>()
    );
    assert_eq!(
        properties(&targets, "/$defs/migrations/properties"),
        fields::<MigrationsSpec>()
    );
    assert_eq!(
        properties(&targets, "/$defs/invariant/properties"),
        fields::<RowInvariant>()
    );
    assert_eq!(properties(&rollout, "/properties"), fields::<RolloutSpec>());
    assert_eq!(
        properties(&rollout, "/$defs/wave/properties"),
        fields::<WaveSpec>()
    );
    assert_eq!(
        properties(&rollout, "/$defs/window/properties"),
        fields::<WindowSpec>()
    );
    assert_eq!(
        properties(&rollout, "/$defs/freeze/properties"),
        fields::<Freeze>()
    );
}

/// A change of a file at a JSON pointer.
fn with(file: &Value, pointer: &str, value: Value) -> Value {
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    let mut file = file.clone();
    match file.pointer_mut(pointer) {
        Some(place) => *place = value,
        None => file.pointer_mut(parent).unwrap()[key] = value,
    }
    file
}

#[test]
fn both_say_the_same_of_rollouts() {
    let good = json!({
        "service": "s", "to": "latest", "release": "1", "budget": "1m", "max_fenced": "25%",
        "waves": [{"regions": ["eu"], "bake": "5m", "approve": true, "health": [
            {"sql": {"name": "n", "query": "SELECT 1"}}, {"http": {"name": "n", "url": "http://h"}},
            {"prometheus": {"name": "n", "url": "http://h", "query": "up"}}, {"command": {"name": "n", "run": "true"}}
        ]}],
        "window": {"time_zone": "UTC", "days": ["mon"], "from": "09:00", "freezes": [{"from": "2026-12-20", "to": "2026-12-21"}]}
    });
    let reads = |file: &Value| {
        serde_json::from_value::<RolloutSpec>(file.clone()).is_ok_and(|spec| spec.check().is_ok())
    };
    assert!(accepts("rollout.json", &good) && reads(&good));
    for (pointer, value) in [
        ("/surprise", json!(1)),
        ("/waves", json!([])),
        ("/waves/0/regions", json!("eu")),
        ("/waves/0", json!({"parallel": 1})),
        (
            "/waves/0",
            json!({"regions": ["eu"], "health": [{"command": {"name": "n", "run": "true"}}]}),
        ),
        ("/waves/0/health/0", json!({"sql": {"name": "n"}})),
        ("/waves/0/health/0", json!({"dance": {"name": "n"}})),
        ("/max_fenced", json!(0)),
        ("/max_fenced", json!("0%")),
        ("/max_fenced", json!("101%")),
        ("/on_failure", json!("panic")),
        ("/window/from", json!("24:00")),
        ("/window/days", json!(["monday"])),
        ("/window/freezes/0/to", json!("tomorrow")),
    ] {
        let bad = with(&good, pointer, value);
        assert!(!reads(&bad), "is read: {bad}");
        assert!(!accepts("rollout.json", &bad), "the schema accepts: {bad}");
    }
}

#[test]
fn both_say_the_same_of_targets() {
    let good = json!({"targets": [{
        "name": "s/eu", "service": "s", "region": "eu", "dsn": {"env": "DSN"}, "labels": {"tier": "gold"},
        "migrations": {"layout": "pop", "dir": ["a", "b"]}, "invariants": [{"name": "n", "query": "SELECT 1"}]
    }]});
    let reads = |file: &Value| serde_json::from_value::<TargetsFile>(file.clone()).is_ok();
    assert!(accepts("targets.json", &good) && reads(&good));
    let commands = json!({"up": ["x", "up"], "status": ["x"], "down": ["x"], "timeout": "1m",
        "rule": {"pending": "p", "version": "(v)"}, "env": {"A": "b"}, "verify": ["checks"]});
    let external = with(&good, "/targets/0/migrations", commands);
    assert!(accepts("targets.json", &external) && reads(&external));
    for (pointer, value) in [
        ("/targets/0/surprise", json!(1)),
        ("/targets/0/dsn", json!("postgres://secret@host/db")),
        ("/targets/0/dsn", json!({"env": "A", "file": "B"})),
        ("/targets/0/strength", json!("strong")),
        ("/targets/0/migrations", json!({"layout": "pop"})),
        ("/targets/0/migrations/up", json!(["x"])),
        (
            "/targets/0/migrations",
            json!({"up": ["x"], "rule": {"pending": "p"}}),
        ),
        (
            "/targets/0/migrations",
            json!({"up": ["x"], "status": ["x"], "rule": {}}),
        ),
        ("/targets/0/invariants/0", json!({"name": "n"})),
    ] {
        let bad = with(&good, pointer, value);
        assert!(!reads(&bad), "is read: {bad}");
        assert!(!accepts("targets.json", &bad), "the schema accepts: {bad}");
    }
}
