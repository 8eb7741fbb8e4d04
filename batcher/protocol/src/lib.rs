//! Open Inference Protocol in JSON, binary and gRPC: parse, merge, split (pure).
