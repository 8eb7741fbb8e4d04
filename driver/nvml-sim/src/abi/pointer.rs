//! Pointers from C callers, as types. Exported functions have them in their signatures, so that their bodies are safe
//! code.
//!
//! Rust code outside this file cannot create one: a value exists only because a C caller passed it, and NVML's
//! contract is that such a pointer is null or valid for what the documentation of the function says. That is the
//! safety argument of every block below. Null is refused with INVALID_ARGUMENT.

use std::ffi::{CStr, c_char, c_uint};

use crate::code::Code;

/// Pointer to one `T` that the library writes, and sometimes reads first.
#[repr(transparent)]
pub(super) struct Out<T>(*mut T);

/// Pointer to one `T` that the library reads.
#[repr(transparent)]
pub(super) struct In<T>(*const T);

/// Pointer to as many `T` as the documentation of the function demands.
#[repr(transparent)]
pub(super) struct OutList<T>(*mut T);

/// Pointer to a buffer for text.
#[repr(transparent)]
pub(super) struct OutText(*mut c_char);

/// Pointer to text with a final zero.
#[repr(transparent)]
pub(super) struct InText(*const c_char);

/// Pointer to a struct that begins with its version: its size, and a number in the upper eight bits.
#[repr(transparent)]
pub(super) struct Versioned(*mut c_uint);

impl<T> Out<T> {
    /// Writes the value.
    pub(super) fn set(&self, value: T) -> Result<(), Code> {
        if self.0.is_null() {
            return Err(Code::INVALID_ARGUMENT);
        }
        // SAFETY: not null, so valid for a write of a T by the function's contract (see above).
        unsafe { self.0.write(value) };
        Ok(())
    }

    /// Reads the value of the caller.
    pub(super) fn get(&self) -> Result<T, Code>
    where
        T: Copy,
    {
        if self.0.is_null() {
            return Err(Code::INVALID_ARGUMENT);
        }
        // SAFETY: not null, and an in-out argument is initialised by the function's contract (see above).
        Ok(unsafe { self.0.read() })
    }
}

impl<T: Copy> In<T> {
    /// Reads the argument.
    pub(super) fn get(&self) -> Result<T, Code> {
        if self.0.is_null() {
            return Err(Code::INVALID_ARGUMENT);
        }
        // SAFETY: not null, so a valid T by the function's contract (see above).
        Ok(unsafe { self.0.read() })
    }
}

impl<T: Copy> OutList<T> {
    /// Writes all `items` and their number, or only the number if the list is null. NVML has no size argument here:
    /// the caller must have room for as many items as the profile allows.
    pub(super) fn fill(&self, count: &Out<c_uint>, items: &[T]) -> Result<(), Code> {
        count.set(items.len() as c_uint)?;
        self.write(items);
        Ok(())
    }

    /// Does the same, where `count` initially holds the room of the caller.
    pub(super) fn fill_within(&self, count: &Out<c_uint>, items: &[T]) -> Result<(), Code> {
        let room = count.get()? as usize;
        count.set(items.len() as c_uint)?;
        if items.len() > room {
            return Err(Code::INSUFFICIENT_SIZE);
        }
        self.write(items);
        Ok(())
    }

    /// Changes each of the `count` items of the caller.
    pub(super) fn update(&self, count: usize, mut change: impl FnMut(&mut T)) -> Result<(), Code> {
        if self.0.is_null() {
            return Err(Code::INVALID_ARGUMENT);
        }
        for index in 0..count {
            // SAFETY: not null, and the caller says that `count` initialised items lie here (see above).
            let place = unsafe { self.0.add(index) };
            // SAFETY: as before; the item is copied out and in, so no reference into the caller's memory lives on.
            let mut item = unsafe { place.read() };
            change(&mut item);
            // SAFETY: as before.
            unsafe { place.write(item) };
        }
        Ok(())
    }

    fn write(&self, items: &[T]) {
        if !self.0.is_null() {
            // SAFETY: not null, with room for all items by the function's contract or by the caller's count (see above);
            // the caller's memory and ours do not overlap.
            unsafe { std::ptr::copy_nonoverlapping(items.as_ptr(), self.0, items.len()) };
        }
    }
}

impl OutText {
    /// Writes `text` and a final zero into `length` bytes.
    pub(super) fn set(&self, length: c_uint, text: &str) -> Result<(), Code> {
        if self.0.is_null() {
            return Err(Code::INVALID_ARGUMENT);
        }
        if (length as usize) <= text.len() {
            return Err(Code::INSUFFICIENT_SIZE);
        }
        // SAFETY: not null, and the caller says that `length` bytes lie here, which is more than the text has (see above).
        unsafe { std::ptr::copy_nonoverlapping(text.as_ptr().cast(), self.0, text.len()) };
        // SAFETY: as before: text.len() < length.
        unsafe { self.0.add(text.len()).write(0) };
        Ok(())
    }
}

impl InText {
    /// Reads the text. Text that is not UTF-8 is refused.
    pub(super) fn get(&self) -> Result<String, Code> {
        if self.0.is_null() {
            return Err(Code::INVALID_ARGUMENT);
        }
        // SAFETY: not null, so text with a final zero by the function's contract (see above).
        let text = unsafe { CStr::from_ptr(self.0) };
        text.to_str().map(str::to_owned).map_err(|_| Code::INVALID_ARGUMENT)
    }
}

impl Versioned {
    /// Returns the version that the caller set.
    pub(super) fn version(&self) -> Result<c_uint, Code> {
        Out(self.0).get()
    }

    /// Returns whether the struct of the caller is a `T` of this version.
    pub(super) fn is<T>(&self, version: u32) -> Result<bool, Code> {
        Ok(self.version()? == version_of::<T>(version))
    }

    /// Reads the struct if it is a `T` of this version.
    pub(super) fn get<T: Copy>(&self, version: u32) -> Result<T, Code> {
        if !self.is::<T>(version)? {
            return Err(Code::ARGUMENT_VERSION_MISMATCH);
        }
        Out(self.0.cast::<T>()).get()
    }

    /// Writes the struct if it is a `T` of this version.
    pub(super) fn set<T>(&self, version: u32, value: T) -> Result<(), Code> {
        if !self.is::<T>(version)? {
            return Err(Code::ARGUMENT_VERSION_MISMATCH);
        }
        Out(self.0.cast::<T>()).set(value)
    }
}

/// Returns the version number of a struct: `NVML_STRUCT_VERSION`.
pub(super) fn version_of<T>(version: u32) -> c_uint {
    size_of::<T>() as c_uint | version << 24
}

/// Returns a C array of characters with `text`, cut to fit, and zeros after it.
pub(super) fn c_array<const N: usize>(text: &str) -> [c_char; N] {
    let mut array = [0; N];
    for (place, byte) in array.iter_mut().zip(text.bytes().take(N - 1)) {
        *place = byte as c_char;
    }
    array
}
