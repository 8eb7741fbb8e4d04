//! Versions of library, driver and CUDA.

use std::ffi::{c_int, c_uint};

use super::nvml;
use super::pointer::{Out, OutText};

/// Version of the library itself. That of the driver is in the topology.
const NVML_VERSION: &str = "13.580.95.05";

nvml! {
    fn nvmlSystemGetDriverVersion(version: OutText, length: c_uint) |nvml| {
        version.set(length, &nvml.topology.driver_version)
    }

    fn nvmlSystemGetNVMLVersion(version: OutText, length: c_uint) |_| {
        version.set(length, NVML_VERSION)
    }

    fn nvmlSystemGetCudaDriverVersion(version: Out<c_int>) |nvml| {
        version.set(nvml.topology.cuda_driver_version as c_int)
    }

    fn nvmlSystemGetCudaDriverVersion_v2(version: Out<c_int>) |nvml| {
        version.set(nvml.topology.cuda_driver_version as c_int)
    }
}
