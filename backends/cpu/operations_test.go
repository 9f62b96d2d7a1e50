package cpu

import "testing"

// moves are the operators with a kernel that do no arithmetic on their elements.
var moves = map[string]bool{
	".Concat": true, ".ConstantOfShape": true, ".Expand": true, ".Flatten": true, ".Gather": true, ".GatherND": true, ".Identity": true,
	".Pad": true, ".Reshape": true, ".Resize": true, ".Slice": true, ".Split": true, ".Squeeze": true, ".TensorScatter": true, ".Transpose": true,
	".Unsqueeze": true, ".Where": true,
}

// TestOperationsOf: what a kernel computes is counted, so that ssdc bench can say
// how fast it is.
func TestOperationsOf(t *testing.T) {
	known := map[string]bool{}
	for _, k := range Kernels() {
		name := k.Op.Domain + "." + k.Op.Name
		known[name] = true
		counted := k.Tile != nil || operationsOf[name] != nil
		if counted == moves[name] {
			t.Errorf("%s: counted is %v, and it only moves data is %v; see operationsOf", name, counted, moves[name])
		}
	}
	for name := range operationsOf {
		if !known[name] {
			t.Errorf("%s is counted and has no kernel", name)
		}
	}
}
