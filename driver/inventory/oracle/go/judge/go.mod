module sluice.dev/oracle/judge

go 1.24.0

require (
	k8s.io/api v0.34.10
	k8s.io/apimachinery v0.34.10
	k8s.io/dynamic-resource-allocation v0.34.10
)
