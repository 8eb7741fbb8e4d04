//! Service curve to latency model to replicas; every decision a replayable record (pure).
