//! Scales inference deployments on latency percentiles and on free GPU slices.
