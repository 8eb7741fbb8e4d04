// What a container runtime does with devices, for tests.
//
//	containers inject SPEC_DIR BUNDLE DEVICE...   gives CDI devices to an OCI bundle, as containerd does
//	runc ... create --bundle BUNDLE ID            stands in for runc: runs the hooks that come before the
//	                                              container's process, and starts nothing
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"
	"tags.cncf.io/container-device-interface/pkg/cdi"
)

func main() {
	var err error
	switch {
	case filepath.Base(os.Args[0]) == "runc":
		err = create(os.Args[1:])
	case len(os.Args) > 3 && os.Args[1] == "inject":
		err = inject(os.Args[2], os.Args[3], os.Args[4:])
	default:
		err = fmt.Errorf("usage: %s inject SPEC_DIR BUNDLE DEVICE...", os.Args[0])
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// Adds what the devices' CDI specifications say to BUNDLE/config.json.
func inject(specDir, bundle string, devices []string) error {
	spec, err := load(bundle)
	if err != nil {
		return err
	}
	cache, err := cdi.NewCache(cdi.WithSpecDirs(specDir), cdi.WithAutoRefresh(false))
	if err != nil {
		return err
	}
	if unresolved, err := cache.InjectDevices(spec, devices...); err != nil {
		return fmt.Errorf("unresolved %v: %w", unresolved, err)
	}
	text, err := json.MarshalIndent(spec, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(bundle, "config.json"), text, 0o644)
}

// Runs the hooks of BUNDLE/config.json; NVIDIA's hook adds GPUs to the container by calling its command-line tool.
func create(arguments []string) error {
	at := slices.Index(arguments, "--bundle")
	if !slices.Contains(arguments, "create") || at < 0 || at+1 >= len(arguments) {
		return fmt.Errorf("only create --bundle DIR ID is stood in for, not %v", arguments)
	}
	bundle := arguments[at+1]
	spec, err := load(bundle)
	if err != nil || spec.Hooks == nil {
		return err
	}
	state, err := json.Marshal(specs.State{Version: specs.Version, ID: "test", Status: specs.StateCreating, Pid: os.Getpid(), Bundle: bundle})
	if err != nil {
		return err
	}
	//nolint:staticcheck // NVIDIA's hook is a prestart hook still.
	for _, hook := range slices.Concat(spec.Hooks.Prestart, spec.Hooks.CreateRuntime) {
		run := exec.Cmd{Path: hook.Path, Args: hook.Args, Env: append(os.Environ(), hook.Env...), Stdin: bytes.NewReader(state)}
		if output, err := run.CombinedOutput(); err != nil {
			return fmt.Errorf("hook %v: %w: %s", hook.Args, err, output)
		}
	}
	return nil
}

func load(bundle string) (*specs.Spec, error) {
	text, err := os.ReadFile(filepath.Join(bundle, "config.json"))
	if err != nil {
		return nil, err
	}
	spec := new(specs.Spec)
	return spec, json.Unmarshal(text, spec)
}
