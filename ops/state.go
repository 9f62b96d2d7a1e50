package ops

import "github.com/ssdc-go/ssdc/graph"

// StateInput is the index of the initial state among the inputs of a recurrent
// operator of domain ssm, whose output 1 is the state after it; -1 for others.
func StateInput(n *graph.Node) int {
	if n.Op.Domain != "ssm" {
		return -1
	}
	switch n.Op.Name {
	case "SSD", "SelectiveScan":
		return 8
	case "LinearScan":
		return 2
	case "CausalConv":
		return 3
	}
	return -1
}
