// The scheduler of Kubernetes 1.34, with DRAPartitionableDevices, which Sluice needs there.
package main

import (
	"time"

	"k8s.io/dynamic-resource-allocation/structured"
	"sluice.dev/oracle/judge"
)

func main() {
	scheduler := judge.Scheduler{
		Features: structured.Features{
			AdminAccess:          true,
			PartitionableDevices: true,
			PrioritizedList:      true,
		},
		Time: time.Second,
	}
	scheduler.Run()
}
