//! Compiles `proto/inference.proto` to prost messages with a compiler written in Rust, so that no protoc is needed.
//! `bytes` fields become `Bytes`, so that raw tensors are slices of the received message, never copies.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto/inference.proto");
    let descriptors = protox::compile(["proto/inference.proto"], ["proto"])?;
    tonic_prost_build::configure()
        .build_server(false)
        .build_client(false)
        .bytes(".")
        .btree_map(".")
        .compile_fds(descriptors)?;
    Ok(())
}
