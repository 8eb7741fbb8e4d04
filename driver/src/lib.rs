//! DRA kubelet plugin: GPUs cut into MIG slices on demand.
