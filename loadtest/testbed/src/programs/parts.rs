//! Third-party programs of a node: versions, and the Go modules that they are built from.

use crate::release::Release;

/// Programs that are built from one Go module.
#[derive(Debug, Clone)]
pub(crate) struct Part {
    /// Name: `etcd`.
    pub name: &'static str,
    /// Its pinned version.
    pub version: String,
    /// Its programs.
    pub programs: Vec<Program>,
    /// Argument that makes the first program print its version, and a part of that output; `None` where it cannot print it.
    pub tells: Option<(&'static str, String)>,
    /// How to build it; `None` where it cannot be built.
    pub recipe: Option<Recipe>,
}

/// One program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Program {
    /// File name, with its folder below the folder of programs.
    pub file: &'static str,
    /// Go package.
    pub package: &'static str,
}

/// How to build a part.
#[derive(Debug, Clone)]
pub(crate) struct Recipe {
    /// Text of go.mod, which pins all modules.
    pub go_mod: &'static str,
    /// Text of go.sum, which pins their contents.
    pub go_sum: &'static str,
    /// Linker flags.
    pub ldflags: String,
    /// Build tags.
    pub tags: &'static str,
    /// Whether it needs a C compiler.
    pub cgo: bool,
}

/// Includes go.mod and go.sum of one folder of `go/`.
macro_rules! module {
    ($folder:literal) => {
        (
            include_str!(concat!("../../go/", $folder, "/go.mod")),
            include_str!(concat!("../../go/", $folder, "/go.sum")),
        )
    };
}

const fn program(file: &'static str, package: &'static str) -> Program {
    Program { file, package }
}

/// Returns all parts that a cluster of this release needs.
pub(crate) fn all(release: Release) -> Vec<Part> {
    vec![kubernetes(release), etcd(), containerd(), runc(), network_plugins(), coredns(), kwok()]
}

/// Returns the part that enforces NetworkPolicies: kube-router, of which only the policy controller runs. Its routing
/// and its service proxy have known flaws in this version.
pub(crate) fn policy_engine() -> Part {
    Part {
        name: "kube-router",
        version: "2.1.0".to_owned(),
        programs: vec![program("kube-router", "github.com/cloudnativelabs/kube-router/v2/cmd/kube-router")],
        // Built from a module, it does not know its version.
        tells: None,
        recipe: recipe(module!("kube-router"), "", false),
    }
}

fn kubernetes(release: Release) -> Part {
    let version = release.version();
    // Without these the server reports version v0.0.0, which clients that check it reject.
    let ldflags = format!(
        "-s -w -X k8s.io/component-base/version.gitVersion=v{version} \
         -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor={}",
        release.minor
    );
    let modules = match release.minor {
        34 => Some(module!("kubernetes-1.34")),
        37 => Some(module!("kubernetes-1.37")),
        _ => None,
    };
    Part {
        name: "kubernetes",
        tells: Some(("--version", format!("Kubernetes v{version}"))),
        version,
        programs: vec![
            program("kube-apiserver", "k8s.io/kubernetes/cmd/kube-apiserver"),
            program("kube-controller-manager", "k8s.io/kubernetes/cmd/kube-controller-manager"),
            program("kube-scheduler", "k8s.io/kubernetes/cmd/kube-scheduler"),
            program("kubelet", "k8s.io/kubernetes/cmd/kubelet"),
            program("kube-proxy", "k8s.io/kubernetes/cmd/kube-proxy"),
            program("kubectl", "k8s.io/kubernetes/cmd/kubectl"),
        ],
        recipe: modules.map(|(go_mod, go_sum)| Recipe { go_mod, go_sum, ldflags, tags: "", cgo: false }),
    }
}

fn recipe((go_mod, go_sum): (&'static str, &'static str), tags: &'static str, cgo: bool) -> Option<Recipe> {
    Some(Recipe { go_mod, go_sum, ldflags: "-s -w".to_owned(), tags, cgo })
}

fn etcd() -> Part {
    Part {
        name: "etcd",
        version: "3.6.5".to_owned(),
        programs: vec![program("etcd", "go.etcd.io/etcd/server/v3")],
        tells: Some(("--version", "etcd Version: 3.6.5".to_owned())),
        recipe: recipe(module!("etcd"), "", false),
    }
}

fn containerd() -> Part {
    Part {
        name: "containerd",
        version: "2.4.2".to_owned(),
        programs: vec![
            program("containerd", "github.com/containerd/containerd/v2/cmd/containerd"),
            program(
                "containerd-shim-runc-v2",
                "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2",
            ),
            program("ctr", "github.com/containerd/containerd/v2/cmd/ctr"),
        ],
        tells: Some(("--version", "2.4.2".to_owned())),
        recipe: recipe(module!("containerd"), "no_btrfs no_zfs no_devmapper", false),
    }
}

fn runc() -> Part {
    Part {
        name: "runc",
        version: "1.5.2".to_owned(),
        programs: vec![program("runc", "github.com/opencontainers/runc")],
        tells: Some(("--version", "runc version 1.5.2".to_owned())),
        // Without seccomp support runc rejects containerd's default profile.
        recipe: recipe(module!("runc"), "seccomp", true),
    }
}

fn network_plugins() -> Part {
    Part {
        name: "cni-plugins",
        version: "1.9.1".to_owned(),
        programs: vec![
            program("cni/bridge", "github.com/containernetworking/plugins/plugins/main/bridge"),
            program("cni/loopback", "github.com/containernetworking/plugins/plugins/main/loopback"),
            program("cni/host-local", "github.com/containernetworking/plugins/plugins/ipam/host-local"),
            program("cni/portmap", "github.com/containernetworking/plugins/plugins/meta/portmap"),
        ],
        tells: None,
        recipe: recipe(module!("cni"), "", false),
    }
}

fn coredns() -> Part {
    Part {
        name: "coredns",
        version: "1.15.0".to_owned(),
        programs: vec![program("coredns", "github.com/coredns/coredns")],
        tells: Some(("-version", "CoreDNS-1.15.0".to_owned())),
        recipe: recipe(module!("coredns"), "", false),
    }
}

fn kwok() -> Part {
    Part {
        name: "kwok",
        version: "0.8.0".to_owned(),
        programs: vec![program("kwok", "sigs.k8s.io/kwok/cmd/kwok")],
        tells: Some(("--version", "v0.8.0".to_owned())),
        recipe: recipe(module!("kwok"), "", false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::release::Minor;

    #[test]
    fn what_can_be_built_is_pinned_at_the_version_that_it_says() {
        for minor in ["1.34", "1.37"] {
            let parts = all(minor.parse::<Minor>().unwrap().release());
            for part in parts.into_iter().chain([policy_engine()]) {
                let recipe = part.recipe.expect("every part of these releases can be built");
                let first = part.programs[0].package;
                let pinned =
                    recipe.go_mod.lines().map(str::trim).map(|line| line.trim_start_matches("require "));
                let mut pinned = pinned.filter(|line| {
                    line.ends_with(&format!(" v{}", part.version))
                        || line.ends_with(&format!(" v{} // indirect", part.version))
                });
                assert!(
                    pinned.any(|line| line.split(' ').next().is_some_and(|module| first.starts_with(module))),
                    "{} {} is not in its go.mod",
                    part.name,
                    part.version
                );
                assert!(recipe.go_sum.lines().count() > 10, "{}", part.name);
                for program in part.programs {
                    assert!(recipe.go_mod.contains(program.package), "no tool line for {}", program.package);
                }
            }
        }
    }
}
