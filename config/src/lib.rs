//! What two components of Sluice must agree on: names, metrics, settings, API types.
