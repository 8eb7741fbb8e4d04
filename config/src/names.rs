//! Names that two components share: changing one here changes it for its writer and its reader at once.

pub mod devices;

/// Name of the DRA driver, in ResourceSlices, claims, and the kubelet's plugin sockets.
pub const DRIVER: &str = "gpu.sluice.dev";

/// API group of Sluice's own kinds.
pub const API_GROUP: &str = "sluice.dev";

/// Served version of Sluice's own kinds.
pub const API_VERSION: &str = "v1alpha1";

/// CDI kind (`vendor/class`) of the devices of one claim.
pub const CDI_KIND: &str = "sluice.dev/claim";

/// File name of the CDI specification of one claim, inside the CDI directory.
pub fn cdi_file_name(claim_uid: &str) -> String {
    format!("sluice.dev-claim_{claim_uid}.json")
}

/// Sockets of a kubelet plugin, relative to the kubelet's directory.
pub mod sockets {
    /// Folder that the kubelet watches for registration sockets.
    pub const REGISTRY_DIR: &str = "plugins_registry";
    /// The driver's registration socket in [`REGISTRY_DIR`].
    pub const REGISTRATION: &str = "gpu.sluice.dev-reg.sock";
    /// Folder of the plugins' own sockets; the driver's is `plugins/gpu.sluice.dev/dra.sock`.
    pub const PLUGINS_DIR: &str = "plugins";
    /// The driver's DRA socket in its folder below [`PLUGINS_DIR`].
    pub const DRA: &str = "dra.sock";
}

/// Environment that a prepared device gives to the container (or process) that claimed it.
pub mod env {
    /// UUIDs of the devices that CUDA may use. Set for plain processes alone: a container sees what it has
    /// device nodes of, and of several claims' values of one variable it would get only the last.
    pub const CUDA_VISIBLE_DEVICES: &str = "CUDA_VISIBLE_DEVICES";
    /// Which GPUs NVIDIA's container runtime adds by itself; many images say `all`.
    pub const NVIDIA_VISIBLE_DEVICES: &str = "NVIDIA_VISIBLE_DEVICES";
    /// Value of [`NVIDIA_VISIBLE_DEVICES`] by which NVIDIA's container runtime adds nothing.
    pub const NVIDIA_VISIBLE_DEVICES_VOID: &str = "void";
    /// What the names of the variables begin with that hold a device's UUID: see [`uuid`].
    pub const UUID_PREFIX: &str = "SLUICE_UUID_";
    /// MIG profile such as `2g.10gb`, or `full`.
    pub const PROFILE: &str = "SLUICE_PROFILE";
    /// Name of the device in its ResourceSlice.
    pub const DEVICE: &str = "SLUICE_DEVICE";
    /// UID of the ResourceClaim.
    pub const CLAIM_UID: &str = "SLUICE_CLAIM_UID";

    /// Variable that holds the UUID of a device (`MIG-…` or `GPU-…`): `gpu-0-mig-2g-10gb-4` has
    /// `SLUICE_UUID_GPU_0_MIG_2G_10GB_4`. Each device has its own, so those of several claims stand side by side.
    pub fn uuid(device: &str) -> String {
        format!("{UUID_PREFIX}{}", device.to_ascii_uppercase().replace('-', "_"))
    }
}

/// Namespace into which the manifests install Sluice.
pub const SYSTEM_NAMESPACE: &str = "sluice-system";

/// What opts a pod in, and what the preloader then gives it.
pub mod pod {
    /// Label of pods that get the sidecar and the gate; its value is [`INJECT_ENABLED`].
    pub const INJECT_LABEL: &str = "sluice.dev/inject";
    /// Value of [`INJECT_LABEL`].
    pub const INJECT_ENABLED: &str = "enabled";
    /// The scheduling gate that holds placement until a slice is free.
    pub const GATE: &str = "sluice.dev/gpu-preload";
    /// The same by the name that a pod template may already carry; on opted-in pods only.
    pub const GATE_ALIAS: &str = "gpu-preload";
    /// Name of the sidecar's container.
    pub const SIDECAR: &str = "sluice-batcher";
    /// The sidecar's front port, unless it is taken or the pod says another: the model's named port is moved here.
    pub const FRONT_PORT: u16 = 8080;
    /// The sidecar's admin port (`/metrics`, `/drain`), unless it is taken or the pod says another. Who looks for it
    /// goes by [`ADMIN_PORT_NAME`].
    pub const ADMIN_PORT: u16 = 8081;
    /// Front and admin port where one of the two above is a container's of the pod: far from the ports on which model
    /// servers listen beside the one that a template names (8080 to 8082). Where these are taken too, the next two.
    pub const OTHER_PORTS: (u16, u16) = (18080, 18081);
    /// Name of [`ADMIN_PORT`] among the sidecar's ports.
    pub const ADMIN_PORT_NAME: &str = "sluice-admin";
    /// Annotation: name of the container port that is moved to the sidecar; `http` where it is absent.
    pub const PORT_ANNOTATION: &str = "sluice.dev/port";
    /// Variable of the model's container where its own preStop command calls the drain: the URL to call.
    pub const DRAIN_URL: &str = "SLUICE_DRAIN_URL";
    /// Annotation: number of the sidecar's front port.
    pub const FRONT_PORT_ANNOTATION: &str = "sluice.dev/front-port";
    /// Annotation: number of the sidecar's admin port.
    pub const ADMIN_PORT_ANNOTATION: &str = "sluice.dev/admin-port";
    /// Annotation: models that must be warm before the pod is ready, separated by commas.
    pub const MODELS_ANNOTATION: &str = "sluice.dev/models";
    /// Annotation: latency objective of the sidecar, milliseconds.
    pub const OBJECTIVE_ANNOTATION: &str = "sluice.dev/objective-ms";
    /// Annotation: most rows of a batch; every size up to it is warmed before the pod is ready.
    pub const MAX_BATCH_ROWS_ANNOTATION: &str = "sluice.dev/max-batch-rows";
    /// Annotation: whether the sidecar merges requests: `auto` (where it is absent), `on`, or `off` behind a
    /// gateway, which merges them already.
    pub const BATCHING_ANNOTATION: &str = "sluice.dev/batching";
    /// Values of [`BATCHING_ANNOTATION`].
    pub const BATCHING_VALUES: [&str; 3] = ["auto", "on", "off"];
    /// Annotation: CPU that the sidecar requests.
    pub const SIDECAR_CPU_ANNOTATION: &str = "sluice.dev/sidecar-cpu";
    /// Annotation: CPU that the sidecar may use; `none` for no limit.
    pub const SIDECAR_CPU_LIMIT_ANNOTATION: &str = "sluice.dev/sidecar-cpu-limit";
    /// Annotation: memory that the sidecar requests.
    pub const SIDECAR_MEMORY_ANNOTATION: &str = "sluice.dev/sidecar-memory";
    /// Annotation: memory that the sidecar may use; `none` for no limit.
    pub const SIDECAR_MEMORY_LIMIT_ANNOTATION: &str = "sluice.dev/sidecar-memory-limit";
    /// Annotation: seconds after which this pod's gate is lifted whatever is free.
    pub const GATE_DEADLINE_ANNOTATION: &str = "sluice.dev/gate-deadline-seconds";
    /// Every annotation that a pod can have.
    pub const ANNOTATIONS: [&str; 12] = [
        PORT_ANNOTATION,
        FRONT_PORT_ANNOTATION,
        ADMIN_PORT_ANNOTATION,
        MODELS_ANNOTATION,
        OBJECTIVE_ANNOTATION,
        MAX_BATCH_ROWS_ANNOTATION,
        BATCHING_ANNOTATION,
        GATE_DEADLINE_ANNOTATION,
        SIDECAR_CPU_ANNOTATION,
        SIDECAR_CPU_LIMIT_ANNOTATION,
        SIDECAR_MEMORY_ANNOTATION,
        SIDECAR_MEMORY_LIMIT_ANNOTATION,
    ];
}
