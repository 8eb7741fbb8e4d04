//! A simulated libnvidia-ml.so.1: simulated GPUs behind the real C ABI.
