//! The kubelet plugin protocols that sluice-driver serves and the local platform calls.
