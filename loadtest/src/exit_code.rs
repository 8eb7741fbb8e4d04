//! Exit codes of the program.

/// Exit code: success.
pub(crate) const EXIT_OK: u8 = 0;
/// Exit code: a threshold was violated, or the program failed while running.
pub(crate) const EXIT_FAILED: u8 = 1;
/// Exit code: the run is invalid (the generator missed its own schedule).
pub(crate) const EXIT_INVALID: u8 = 2;
/// Exit code: wrong usage or settings.
pub(crate) const EXIT_USAGE: u8 = sluice_process::settings::EXIT_USAGE;
