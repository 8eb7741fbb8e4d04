#!/usr/bin/env python3
"""Lists all MIG devices through nvidia-ml-py as it comes from PyPI, one JSON object per line.

    LD_LIBRARY_PATH=<folder with libnvidia-ml.so.1> python3 list_instances.py

Whichever NVML the dynamic linker finds first answers: the real one or a simulated one.
"""

import json

import pynvml as nvml


def profile_names(device):
    """GPU-instance profile id -> name, e.g. 19 -> "1g.5gb"."""
    names = {}
    for profile in range(nvml.NVML_GPU_INSTANCE_PROFILE_COUNT):
        try:
            info = nvml.nvmlDeviceGetGpuInstanceProfileInfo(device, profile, version=2)
        except (nvml.NVMLError_NotSupported, nvml.NVMLError_InvalidArgument):
            continue
        names[info.id] = nvml_text(info.name).removeprefix("MIG ")
    return names


def nvml_text(text):
    """nvidia-ml-py gives bytes from structs and str from calls."""
    return text.decode() if isinstance(text, bytes) else text


def mig_devices(device):
    """The MIG devices of one GPU."""
    for index in range(nvml.nvmlDeviceGetMaxMigDeviceCount(device)):
        try:
            yield nvml.nvmlDeviceGetMigDeviceHandleByIndex(device, index)
        except nvml.NVMLError_NotFound:
            return


def gpu_instance_profile(device, gpu_instance_id):
    """The profile id of a GPU instance."""
    instance = nvml.nvmlDeviceGetGpuInstanceById(device, gpu_instance_id)
    return nvml.nvmlGpuInstanceGetInfo(instance).profileId


def main():
    nvml.nvmlInit()
    try:
        for gpu in range(nvml.nvmlDeviceGetCount()):
            device = nvml.nvmlDeviceGetHandleByIndex(gpu)
            names = profile_names(device)
            for mig in mig_devices(device):
                gpu_instance_id = nvml.nvmlDeviceGetGpuInstanceId(mig)
                line = {
                    "gpu": gpu,
                    "gpu_uuid": nvml_text(nvml.nvmlDeviceGetUUID(device)),
                    "mig_uuid": nvml_text(nvml.nvmlDeviceGetUUID(mig)),
                    "gpu_instance_id": gpu_instance_id,
                    "compute_instance_id": nvml.nvmlDeviceGetComputeInstanceId(mig),
                    "profile": names[gpu_instance_profile(device, gpu_instance_id)],
                    "memory_mib": nvml.nvmlDeviceGetMemoryInfo(mig).total // 2**20,
                }
                print(json.dumps(line), flush=True)
    finally:
        nvml.nvmlShutdown()


if __name__ == "__main__":
    main()
