//! What the shipped admission policies let each account change. The expressions are evaluated here as the API server
//! evaluates them; the scenarios of loadtest/testbed try the same with the accounts' own tokens.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may panic")]

#[path = "policies_hold/driver.rs"]
mod driver;
#[path = "policies_hold/policy.rs"]
mod policy;
#[path = "policies_hold/preloader.rs"]
mod preloader;
#[path = "policies_hold/scaling.rs"]
mod scaling;
