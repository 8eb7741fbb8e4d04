// Package judge asks the scheduler's own allocator about cluster states: on which nodes a pod's claims fit, which
// devices they get, and how many such pods fit one after another.
//
// States come as lines of JSON on standard input; each is answered by one line on standard output.
package judge

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	v1 "k8s.io/api/core/v1"
	resourceapi "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/dynamic-resource-allocation/cel"
	"k8s.io/dynamic-resource-allocation/structured"
)

// State is a cluster and the question about it.
type State struct {
	// Nodes in the order in which the count of further pods fills them.
	Nodes   []*v1.Node                   `json:"nodes"`
	Slices  []*resourceapi.ResourceSlice `json:"slices"`
	Classes []*resourceapi.DeviceClass   `json:"classes"`
	// Claims that are allocated.
	Claims []*resourceapi.ResourceClaim `json:"claims"`
	// Want are the claims of one pod, none of them allocated.
	Want []*resourceapi.ResourceClaim `json:"want"`
	// Limit is the maximum number of pods that are counted.
	Limit int `json:"limit"`
}

// Device is one device that a claim would get.
type Device struct {
	Claim   int    `json:"claim"`
	Request string `json:"request"`
	Device  string `json:"device"`
}

// OnNode is the answer for one node.
type OnNode struct {
	Fits    bool     `json:"fits"`
	Devices []Device `json:"devices,omitempty"`
	// Error is why the scheduler would abort the whole attempt, not only this node.
	Error string `json:"error,omitempty"`
}

// Answer is the scheduler's answer to a state.
type Answer struct {
	Nodes map[string]OnNode `json:"nodes"`
	// More is how many such pods fit one after another.
	More int `json:"more"`
	// GaveUp reports that the time was not enough; then the other fields mean nothing.
	GaveUp bool `json:"gaveUp,omitempty"`
	// Error is why counting was aborted.
	Error string `json:"error,omitempty"`
	// Unreadable is why a state is not valid.
	Unreadable string `json:"unreadable,omitempty"`
}

// Scheduler is one release of the scheduler, with its default feature gates, or those that Sluice needs.
type Scheduler struct {
	Features structured.Features
	Cel      cel.Features
	// Time is the limit for one state.
	Time time.Duration
}

// IsOfNode reports whether an error of the allocator is about one node only. Not every release has such errors.
var IsOfNode = func(error) bool { return false }

type classes []*resourceapi.DeviceClass

func (c classes) List() ([]*resourceapi.DeviceClass, error) { return c, nil }

func (c classes) Get(name string) (*resourceapi.DeviceClass, error) {
	for _, class := range c {
		if class.Name == name {
			return class, nil
		}
	}
	return nil, fmt.Errorf("DeviceClass %s does not exist", name)
}

// hold adds what an allocated claim holds, as the scheduler's cache of claims does.
func (s *Scheduler) hold(state *structured.AllocatedState, allocation *resourceapi.AllocationResult) {
	for _, result := range allocation.Devices.Results {
		if result.AdminAccess != nil && *result.AdminAccess {
			continue
		}
		id := structured.MakeDeviceID(result.Driver, result.Pool, result.Device)
		if s.Features.ConsumableCapacity && result.ShareID != nil {
			state.AllocatedSharedDeviceIDs.Insert(structured.MakeSharedDeviceID(id, result.ShareID))
			if result.ConsumedCapacity != nil {
				state.AggregatedCapacity.Insert(structured.NewDeviceConsumedCapacity(id, result.ConsumedCapacity))
			}
			continue
		}
		state.AllocatedDevices.Insert(id)
	}
}

func (s *Scheduler) judge(state *State) Answer {
	ctx, cancel := context.WithTimeout(context.Background(), s.Time)
	defer cancel()
	held := structured.AllocatedState{
		AllocatedDevices:         sets.New[structured.DeviceID](),
		AllocatedSharedDeviceIDs: sets.New[structured.SharedDeviceID](),
		AggregatedCapacity:       structured.NewConsumedCapacityCollection(),
	}
	for _, claim := range state.Claims {
		if claim.Status.Allocation != nil {
			s.hold(&held, claim.Status.Allocation)
		}
	}
	cache := cel.NewCache(100, s.Cel)
	allocate := func(node *v1.Node) ([]resourceapi.AllocationResult, error) {
		allocator, err := structured.NewAllocator(ctx, s.Features, held, classes(state.Classes), state.Slices, cache)
		if err != nil {
			return nil, err
		}
		return allocator.Allocate(ctx, node, state.Want)
	}
	answer := Answer{Nodes: map[string]OnNode{}}
	for _, node := range state.Nodes {
		results, err := allocate(node)
		var on OnNode
		switch {
		case ctx.Err() != nil:
			return Answer{Nodes: map[string]OnNode{}, GaveUp: true}
		case err != nil && !IsOfNode(err):
			on.Error = err.Error()
		case err == nil && results != nil:
			on.Fits = true
			for i, result := range results {
				for _, device := range result.Devices.Results {
					on.Devices = append(on.Devices, Device{i, device.Request, device.Driver + "|" + device.Pool + "|" + device.Device})
				}
			}
		}
		answer.Nodes[node.Name] = on
	}
	for _, node := range state.Nodes {
		for answer.More < state.Limit {
			results, err := allocate(node)
			if ctx.Err() != nil {
				return Answer{Nodes: map[string]OnNode{}, GaveUp: true}
			}
			if err != nil && !IsOfNode(err) {
				// The scheduler gives up the pod, on all nodes.
				answer.Error = err.Error()
				return answer
			}
			if err != nil || results == nil {
				break
			}
			for i := range results {
				s.hold(&held, &results[i])
			}
			answer.More++
		}
	}
	return answer
}

// answer reads a state and judges it. The allocator panics at objects that the API server would refuse.
func (s *Scheduler) answer(line []byte) (answer Answer) {
	defer func() {
		if trouble := recover(); trouble != nil {
			answer = Answer{Nodes: map[string]OnNode{}, Unreadable: fmt.Sprint(trouble)}
		}
	}()
	var state State
	if err := json.Unmarshal(line, &state); err != nil {
		return Answer{Nodes: map[string]OnNode{}, Unreadable: err.Error()}
	}
	return s.judge(&state)
}

// Run answers states until standard input ends.
func (s *Scheduler) Run() {
	in := bufio.NewReader(os.Stdin)
	out := json.NewEncoder(os.Stdout)
	for {
		line, err := in.ReadBytes('\n')
		if len(line) > 0 {
			if err := out.Encode(s.answer(line)); err != nil {
				os.Exit(1)
			}
		}
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "failed to read standard input:", err)
			os.Exit(1)
		}
	}
}
