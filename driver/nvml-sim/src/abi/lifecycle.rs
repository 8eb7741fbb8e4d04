//! Opening and closing the library, and error texts: the functions that work while the library is closed.

use std::ffi::{c_char, c_uint};

use super::{frame, home};
use crate::code::Code;
use crate::session;

/// Functions of this file that faults and latencies can name.
pub(super) const NAMES: &[&str] = &["nvmlInit", "nvmlInit_v2", "nvmlInitWithFlags", "nvmlShutdown"];

#[unsafe(no_mangle)]
extern "C" fn nvmlInit() -> u32 {
    frame("nvmlInit", || session::open("nvmlInit", home::dir()))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlInit_v2() -> u32 {
    frame("nvmlInit_v2", || session::open("nvmlInit_v2", home::dir()))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlInitWithFlags(_flags: c_uint) -> u32 {
    frame("nvmlInitWithFlags", || session::open("nvmlInitWithFlags", home::dir()))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlShutdown() -> u32 {
    frame("nvmlShutdown", session::close)
}

#[unsafe(no_mangle)]
extern "C" fn nvmlErrorString(code: u32) -> *const c_char {
    let text = if code == 0 { Some(c"Success") } else { Code(code).text() };
    text.unwrap_or(c"Unknown Error").as_ptr()
}
