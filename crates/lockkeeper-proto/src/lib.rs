//! The gRPC API of lockkeeper, package `lockkeeper.v1`: generated code, and conversions to the core's types.
//!
//! The code under `src/generated` comes from `proto/` and is committed; a test compares the two.

pub mod convert;

/// Messages, clients and servers of `lockkeeper.v1`.
#[expect(clippy::all, clippy::allow_attributes, reason = "generated code")]
pub mod v1 {
    include!("generated/lockkeeper.v1.rs");
}

/// The API's descriptors, for gRPC reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!("generated/descriptor.bin");
