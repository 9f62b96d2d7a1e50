// Package softcap is an example plugin: it teaches the compiler one operator,
// Softcap(x) = cap * tanh(x/cap), which bounds the logits of some language
// models, with a CPU kernel for it and a pass that finds it.
//
// A compiler with the plugin is the main of ten lines in ssdc-softcap. To write
// a plugin of your own, copy this folder and drop the replace line of go.mod.
package softcap

import (
	"github.com/ssdc-go/ssdc/backends/cpu"
	"github.com/ssdc-go/ssdc/ops"
	"github.com/ssdc-go/ssdc/passes"
	"github.com/ssdc-go/ssdc/plugin"
)

// Plugin is all that a main needs.
var Plugin = plugin.Plugin{
	Name:    "softcap",
	Ops:     []*ops.Op{Op},
	Kernels: []*cpu.Kernel{Kernel},
	Passes:  []*passes.Pass{Pass},
}
