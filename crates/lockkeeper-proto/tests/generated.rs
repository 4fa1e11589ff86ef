//! The generated code is committed, so that nobody who embeds an agent needs `protoc`. This test generates it
//! again and compares; `UPDATE_GENERATED=1 cargo test -p lockkeeper-proto` writes it.

use std::path::{Path, PathBuf};

const FILES: [&str; 4] = [
    "lockkeeper/v1/types.proto",
    "lockkeeper/v1/agent.proto",
    "lockkeeper/v1/rollout.proto",
    "lockkeeper/v1/fleet.proto",
];

fn generate(into: &Path) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../proto");
    let descriptors = protox::compile(FILES, [&root]).expect("the .proto files compile");
    std::fs::write(
        into.join("descriptor.bin"),
        prost::Message::encode_to_vec(&descriptors),
    )
    .expect("the descriptor is written");
    tonic_prost_build::configure()
        .out_dir(into)
        .compile_fds(descriptors)
        .expect("code is generated");
}

#[test]
fn the_committed_code_is_what_the_proto_files_say() {
    let committed: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/generated");
    if std::env::var_os("UPDATE_GENERATED").is_some() {
        generate(&committed);
    }
    let fresh = tempfile::tempdir().unwrap();
    generate(fresh.path());
    for name in ["lockkeeper.v1.rs", "descriptor.bin"] {
        let read = |dir: &Path| std::fs::read(dir.join(name)).unwrap_or_default();
        assert!(
            read(&committed) == read(fresh.path()),
            "src/generated/{name} is stale: run UPDATE_GENERATED=1 cargo test -p lockkeeper-proto"
        );
    }
}
