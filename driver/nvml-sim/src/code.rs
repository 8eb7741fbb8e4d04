//! Return codes of NVML.

use nvml_wrapper_sys::bindings as sys;

/// Return code of NVML other than success.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Code(pub u32);

macro_rules! codes {
    ($($name:ident = $value:ident, $text:literal, $doc:literal;)*) => {
        impl Code {
            $(#[doc = $doc] pub const $name: Code = Code(sys::$value);)*

            /// Returns the text of `nvmlErrorString`; `None` for a number that NVML does not define.
            pub fn text(self) -> Option<&'static std::ffi::CStr> {
                match self {
                    $(Code::$name => Some($text),)*
                    _ => None,
                }
            }
        }
    };
}

codes! {
    UNINITIALIZED = nvmlReturn_enum_NVML_ERROR_UNINITIALIZED, c"Uninitialized", "`nvmlInit` was not called.";
    INVALID_ARGUMENT = nvmlReturn_enum_NVML_ERROR_INVALID_ARGUMENT, c"Invalid Argument", "A null pointer, a stale handle, or a number that means nothing.";
    NOT_SUPPORTED = nvmlReturn_enum_NVML_ERROR_NOT_SUPPORTED, c"Not Supported", "This device cannot do it, or MIG is off.";
    NO_PERMISSION = nvmlReturn_enum_NVML_ERROR_NO_PERMISSION, c"Insufficient Permissions", "The caller may not do it.";
    NOT_FOUND = nvmlReturn_enum_NVML_ERROR_NOT_FOUND, c"Not Found", "No such object.";
    INSUFFICIENT_SIZE = nvmlReturn_enum_NVML_ERROR_INSUFFICIENT_SIZE, c"Insufficient Size", "The caller's buffer is too small.";
    DRIVER_NOT_LOADED = nvmlReturn_enum_NVML_ERROR_DRIVER_NOT_LOADED, c"Driver Not Loaded", "There is no driver (here: no usable topology file).";
    TIMEOUT = nvmlReturn_enum_NVML_ERROR_TIMEOUT, c"Timeout", "No event came in time.";
    LIBRARY_NOT_FOUND = nvmlReturn_enum_NVML_ERROR_LIBRARY_NOT_FOUND, c"NVML Shared Library Not Found", "The library is absent.";
    FUNCTION_NOT_FOUND = nvmlReturn_enum_NVML_ERROR_FUNCTION_NOT_FOUND, c"Function Not Found", "The driver is older than the function.";
    GPU_IS_LOST = nvmlReturn_enum_NVML_ERROR_GPU_IS_LOST, c"GPU is lost", "The GPU has fallen off the bus.";
    RESET_REQUIRED = nvmlReturn_enum_NVML_ERROR_RESET_REQUIRED, c"GPU requires restart", "The GPU must be reset first.";
    IN_USE = nvmlReturn_enum_NVML_ERROR_IN_USE, c"In use by another client", "Something still lives inside what was to go.";
    MEMORY = nvmlReturn_enum_NVML_ERROR_MEMORY, c"Insufficient Memory", "Out of memory.";
    INSUFFICIENT_RESOURCES = nvmlReturn_enum_NVML_ERROR_INSUFFICIENT_RESOURCES, c"Insufficient Resources", "The placement is taken.";
    ARGUMENT_VERSION_MISMATCH = nvmlReturn_enum_NVML_ERROR_ARGUMENT_VERSION_MISMATCH, c"Argument version mismatch", "The struct's version field is not one that the library knows.";
    GPU_NOT_FOUND = nvmlReturn_enum_NVML_ERROR_GPU_NOT_FOUND, c"GPU not found", "There is no GPU.";
    UNKNOWN = nvmlReturn_enum_NVML_ERROR_UNKNOWN, c"Unknown Error", "Anything else; here also a state or fault file that cannot be read.";
}
