//! Pointers that a C caller hands in, as types. An exported function takes them in its signature, so each body is safe code.
//!
//! None can be made in Rust outside this file: a value exists only because a C caller passed one, and NVML's contract is
//! that such a pointer is null or valid for what the function's documentation says about it. That is the safety
//! argument of every block below; null is refused with INVALID_ARGUMENT.

use std::ffi::{CStr, c_char, c_uint};

use crate::code::Code;

/// A place for one `T`, written by the library; sometimes read first.
#[repr(transparent)]
pub(super) struct Out<T>(*mut T);

/// One `T`, read by the library.
#[repr(transparent)]
pub(super) struct In<T>(*const T);

/// A place for as many `T` as the function's documentation demands.
#[repr(transparent)]
pub(super) struct OutList<T>(*mut T);

/// A place for text.
#[repr(transparent)]
pub(super) struct OutText(*mut c_char);

/// Text with a final zero.
#[repr(transparent)]
pub(super) struct InText(*const c_char);

/// A struct that begins with its version: its size, and a number in the upper eight bits.
#[repr(transparent)]
pub(super) struct Versioned(*mut c_uint);

impl<T> Out<T> {
    /// Writes the answer.
    pub(super) fn set(&self, value: T) -> Result<(), Code> {
        if self.0.is_null() {
            return Err(Code::INVALID_ARGUMENT);
        }
        // SAFETY: not null, so valid for a write of a T by the function's contract (see above).
        unsafe { self.0.write(value) };
        Ok(())
    }

    /// Reads what the caller put there.
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
    /// Writes all `items` and their number. Where the list is null, the number alone.
    /// The caller must have room for as many as the profile allows; NVML takes no size here.
    pub(super) fn fill(&self, count: &Out<c_uint>, items: &[T]) -> Result<(), Code> {
        count.set(items.len() as c_uint)?;
        self.write(items);
        Ok(())
    }

    /// The same where `count` says on entry how much room there is.
    pub(super) fn fill_within(&self, count: &Out<c_uint>, items: &[T]) -> Result<(), Code> {
        let room = count.get()? as usize;
        count.set(items.len() as c_uint)?;
        if items.len() > room {
            return Err(Code::INSUFFICIENT_SIZE);
        }
        self.write(items);
        Ok(())
    }

    /// Changes each of the `count` items that the caller put there.
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
    /// Reads the text; what is not UTF-8 names nothing.
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
    /// The version that the caller filled in.
    pub(super) fn version(&self) -> Result<c_uint, Code> {
        Out(self.0).get()
    }

    /// Whether the caller's struct is a `T` of this version.
    pub(super) fn is<T>(&self, version: u32) -> Result<bool, Code> {
        Ok(self.version()? == version_of::<T>(version))
    }

    /// Reads the struct, if it is a `T` of this version.
    pub(super) fn get<T: Copy>(&self, version: u32) -> Result<T, Code> {
        if !self.is::<T>(version)? {
            return Err(Code::ARGUMENT_VERSION_MISMATCH);
        }
        Out(self.0.cast::<T>()).get()
    }

    /// Writes the struct, if it is a `T` of this version.
    pub(super) fn set<T>(&self, version: u32, value: T) -> Result<(), Code> {
        if !self.is::<T>(version)? {
            return Err(Code::ARGUMENT_VERSION_MISMATCH);
        }
        Out(self.0.cast::<T>()).set(value)
    }
}

/// The version number of a struct: `NVML_STRUCT_VERSION`.
pub(super) fn version_of<T>(version: u32) -> c_uint {
    size_of::<T>() as c_uint | version << 24
}

/// A C array of characters with `text` and zeros after it; text that is too long is cut.
pub(super) fn c_array<const N: usize>(text: &str) -> [c_char; N] {
    let mut array = [0; N];
    for (place, byte) in array.iter_mut().zip(text.bytes().take(N - 1)) {
        *place = byte as c_char;
    }
    array
}
