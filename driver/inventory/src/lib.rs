//! Devices, counters, MIG geometry and claims: what is free, as the scheduler would find it (pure).
