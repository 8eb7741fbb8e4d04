//! NVIDIA's container runtime on an OCI bundle, with stand-ins for runc and for the tool that adds GPUs.

use std::collections::BTreeSet;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use serde_json::{Value, json};

/// Mode in which NVIDIA's runtime adds GPUs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// By a hook that calls nvidia-container-cli.
    Legacy,
    /// As the runtime chooses: by CDI specifications that it generates.
    Auto,
}

/// OCI bundle, which a container runtime starts.
pub(crate) struct Bundle {
    dir: tempfile::TempDir,
}

impl Bundle {
    /// Creates a bundle for a container whose image has these variables.
    pub(crate) fn of_image(environment: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("rootfs")).unwrap();
        let environment = [&["PATH=/bin"], environment].concat();
        let config = json!({
            "ociVersion": "1.2.0",
            "process": {"user": {"uid": 0, "gid": 0}, "args": ["true"], "cwd": "/", "env": environment},
            "root": {"path": "rootfs"},
            "linux": {},
        });
        std::fs::write(dir.path().join("config.json"), config.to_string()).unwrap();
        Self { dir }
    }

    /// Adds CDI devices, as containerd does before it calls the runtime.
    pub(crate) fn inject(&self, cdi_dir: &Path, devices: &[String]) {
        let mut command = Command::new(programs().join("container-runtime"));
        run(command.arg("inject").arg(cdi_dir).arg(self.dir.path()).args(devices)).unwrap();
    }

    /// Makes NVIDIA's runtime create the container.
    pub(crate) fn start(&self, mode: Mode) -> Result<(), String> {
        let path = |name: &str| self.dir.path().join(name);
        let runc = path("runc");
        if !runc.exists() {
            symlink(programs().join("container-runtime"), &runc).unwrap();
        }
        let tool = path("nvidia-container-cli");
        std::fs::write(&tool, format!("#!/bin/sh\necho \"$@\" >> {}\n", path("asked").display())).unwrap();
        std::fs::set_permissions(&tool, std::fs::Permissions::from_mode(0o755)).unwrap();
        let mode = match mode {
            Mode::Legacy => "legacy",
            Mode::Auto => "auto",
        };
        let config = format!(
            "[nvidia-container-cli]\npath = \"{}\"\n[nvidia-container-runtime]\nmode = \"{mode}\"\n\
             runtimes = [\"{}\"]\n[nvidia-container-runtime-hook]\npath = \"{}\"\n",
            tool.display(),
            runc.display(),
            programs().join("nvidia-container-runtime-hook").display(),
        );
        std::fs::write(path("config.toml"), config).unwrap();
        let mut command = Command::new(programs().join("nvidia-container-runtime"));
        command.env("NVIDIA_CTK_CONFIG_FILE_PATH", path("config.toml"));
        run(command.args(["create", "--bundle"]).arg(self.dir.path()).arg("test"))
    }

    /// Returns the arguments of NVIDIA's tool for adding GPUs; empty if it was not called.
    pub(crate) fn nvidia_was_asked(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("asked")).unwrap_or_default()
    }

    /// Returns the device files of the container that would have been started.
    pub(crate) fn devices(&self) -> BTreeSet<String> {
        let config = self.config();
        let devices = config["linux"]["devices"].as_array().into_iter().flatten();
        devices.map(|device| device["path"].as_str().unwrap().to_owned()).collect()
    }

    /// Returns the mounted files of the node by their paths in the container. A path that is mounted twice appears
    /// twice.
    pub(crate) fn mounts(&self) -> Vec<(String, PathBuf)> {
        let config = self.config();
        let mounts = config["mounts"].as_array().into_iter().flatten();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        mounts.map(|mount| (text(&mount["destination"]), text(&mount["source"]).into())).collect()
    }

    /// Returns a variable of the container's process.
    pub(crate) fn variable(&self, name: &str) -> Option<String> {
        let config = self.config();
        let variables = config["process"]["env"].as_array().unwrap().iter();
        variables
            .filter_map(|variable| variable.as_str()?.split_once('='))
            .find_map(|(other, value)| (other == name).then(|| value.to_owned()))
    }

    fn config(&self) -> Value {
        serde_json::from_slice(&std::fs::read(self.dir.path().join("config.json")).unwrap()).unwrap()
    }
}

/// Returns the folder of the Go programs, which are built once.
fn programs() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("container-runtime");
        std::fs::create_dir_all(&folder).unwrap();
        let toolkit = "github.com/NVIDIA/nvidia-container-toolkit/cmd/nvidia-container-runtime";
        let mut build = Command::new("go");
        build.args(["build", "-mod=readonly", "-trimpath", "-o"]).arg(&folder).args([
            ".",
            toolkit,
            &format!("{toolkit}-hook"),
        ]);
        // Flags and workspaces of the user are for other modules.
        build.env("GOFLAGS", "").env("GOWORK", "off").env("CGO_CFLAGS", "-w");
        run(build.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/container_runtime/go"))).unwrap();
        folder
    })
}

fn run(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr))),
    }
}
