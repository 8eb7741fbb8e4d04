//! What scenarios and benchmarks do to traffic in the cluster: send load, cut connections.

pub(crate) mod cut;
pub(crate) mod load;
