//! How many rows per second there are, and will be when a replica that is started now is ready.
