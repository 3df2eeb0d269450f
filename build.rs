//! Compiles `proto/` with protox, so that no protoc is needed.

use std::{env, error::Error, fs, path::PathBuf};

use prost::Message;

const FILES: [&str; 20] = [
    "fastgate/admin/v1/access.proto",
    "fastgate/admin/v1/config.proto",
    "fastgate/admin/v1/environment.proto",
    "fastgate/admin/v1/explain.proto",
    "fastgate/admin/v1/key.proto",
    "fastgate/admin/v1/limit.proto",
    "fastgate/admin/v1/log.proto",
    "fastgate/admin/v1/metrics.proto",
    "fastgate/admin/v1/node.proto",
    "fastgate/admin/v1/plan.proto",
    "fastgate/admin/v1/recording.proto",
    "fastgate/admin/v1/rollout.proto",
    "fastgate/admin/v1/route.proto",
    "fastgate/admin/v1/status.proto",
    "fastgate/admin/v1/upstream.proto",
    "fastgate/node/v1/audit_ingest.proto",
    "fastgate/node/v1/audit_query.proto",
    "fastgate/node/v1/audit_tail.proto",
    "fastgate/node/v1/config_stream.proto",
    "fastgate/node/v1/node_identity.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto");
    let mut compiler = protox::Compiler::new(["proto"])?;
    compiler.include_imports(true).open_files(FILES)?;

    // Reflection and the REST gateway read the annotations, which prost's own types drop.
    let descriptors = compiler.encode_file_descriptor_set();
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("descriptors.bin"), &descriptors)?;

    tonic_prost_build::configure()
        // In one order, so that what is encoded again has the same bytes.
        .btree_map(".")
        .bytes(".fastgate.node.v1.Entity")
        .bytes(".fastgate.node.v1.SnapshotChunk")
        .bytes(".fastgate.admin.v1.FilePart")
        .compile_fds(prost_types::FileDescriptorSet::decode(&descriptors[..])?)?;
    Ok(())
}
