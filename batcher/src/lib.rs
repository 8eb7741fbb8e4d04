//! Request batcher: sidecar of an inference pod, or gateway in front of several model servers.
