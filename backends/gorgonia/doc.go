// Package gorgonia joins ssdc and Gorgonia (gorgonia.org/gorgonia), both ways.
//
// A Gorgonia program gets ssdc's state space scans as Ops: SSD and
// SelectiveScan add them to an expression graph, where they run on ssdc's CPU
// kernels.
//
//	y, hT, err := gorgonia.SSD(x, dt, A, B, C, gorgonia.Softplus(), gorgonia.D(d))
//
// A program that uses ssdc gets Gorgonia as a backend: New makes a
// backends.Backend that lowers a compiled graph to an ExprGraph for each set of
// input shapes and runs it on a TapeMachine. Operators that Gorgonia has with
// ONNX's meaning run as Gorgonia's (native.go lists them); the others run as
// Ops around ssdc's kernels.
//
// The package is in a module of its own because Gorgonia brings many more.
package gorgonia
