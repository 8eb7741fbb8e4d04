// The scheduler of Kubernetes 1.37, with its feature gates as they are by default.
package main

import (
	"errors"
	"time"

	"k8s.io/dynamic-resource-allocation/cel"
	"k8s.io/dynamic-resource-allocation/structured"
	"sluice.dev/oracle/judge"
)

func main() {
	judge.IsOfNode = func(err error) bool { return errors.Is(err, structured.ErrFailedAllocationOnNode) }
	scheduler := judge.Scheduler{
		Features: structured.Features{
			AdminAccess:             true,
			ConsumableCapacity:      true,
			DeviceBindingAndStatus:  true,
			DeviceTaints:            true,
			FractionalCapacityRange: true,
			PartitionableDevices:    true,
			PrioritizedList:         true,
		},
		Cel:  cel.Features{EnableConsumableCapacity: true},
		Time: time.Second,
	}
	scheduler.Run()
}
