// Package backends turns legalised graphs into something that runs.
//
// A Backend compiles a graph for a Target into a Plan: the graph, the choice of
// a kernel for every node and the table of weights, some of them packed. A Plan
// is plain data and goes into an artifact (backends/artifact). Open makes an
// Executable of it, and an Executable makes Sessions. Sessions run the model
// and own what outlives a step: recurrent state and scratch memory.
//
// The packages below are backends/ref (the definition: every operator's Eval),
// backends/cpu (packed weights, vector kernels, one arena) and backends/cuda.
package backends

import (
	"context"
	"io"
	"time"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
)

// Target says what to compile for.
type Target struct {
	// Name is the backend: "cpu", "ref", ...
	Name string `json:"name"`
	// Level is the optimisation level; 0 promises no fused operators.
	Level int `json:"level,omitempty"`
	// Threads is the most threads that Open uses; 0: one per processor, which is
	// also the limit.
	Threads int `json:"threads,omitempty"`
	// Weights is the storage of packed matrices: "" or "f32", "bf16", ...
	Weights string `json:"weights,omitempty"`
	// States pairs recurrent inputs with the outputs that replace them.
	States []StatePair `json:"states,omitempty"`
	// Options are the backend's own settings, by name.
	Options map[string]string `json:"options,omitempty"`
}

// StatePair says that output Out of one run is input In of the next.
type StatePair struct {
	In  string `json:"in"`
	Out string `json:"out"`
}

// Backend compiles and opens plans. It is safe for concurrent use.
type Backend interface {
	Name() string
	// Supports says why a node cannot run on the target, or nil.
	Supports(*graph.Node, Target) error
	// Compile chooses a kernel for every node. It keeps g and may annotate it;
	// the caller must not change g afterwards.
	Compile(g *graph.Graph, t Target) (*Plan, error)
	// Open prepares a plan for running. Weights nil means the plan's own.
	Open(*Plan, Weights) (Executable, error)
}

// Weights finds the stored form of a constant. Layout "" is row-major; other
// layouts belong to the kernel that packed them. The memory is read-only and
// stays valid as long as the Weights do.
type Weights interface {
	Weight(name, layout string) (*tensor.Tensor, error)
}

// TableWeights are Weights of which pieces can be read from where they are kept. A system
// that maps files in large pages has all of a table in memory when few rows were read.
type TableWeights interface {
	Weights
	// Reader gives the bytes of a constant in row-major layout, or nil. It is valid as
	// long as the Weights are.
	Reader(name string) io.ReaderAt
}

// Executable is an opened plan: read-only weights and threads, shared by any
// number of sessions.
type Executable interface {
	Plan() *Plan
	NewSession() (Session, error)
	// Close ends the threads. Its sessions must not run any more.
	Close() error
}

// Session runs the model. It is not safe for concurrent use; use a session per
// goroutine.
type Session interface {
	// Run computes the outputs from in, by name. A paired state input that is
	// missing from in is the state that the session keeps: zeros at first and
	// after Reset, otherwise what the last Run left. A state that is given
	// replaces the session's.
	//
	// Results are written to the tensors of out, which must have the right type
	// and may be those of in; results that out lacks (or has nil for) are in
	// memory of the session, which a later Run may overwrite unless it is passed
	// to that Run as an input. The returned map, too, belongs to the session.
	// After the first Run with given shapes, further ones allocate nothing.
	//
	// A Run that fails half-way leaves recurrent state undefined: the session
	// then refuses to run until Reset or Restore.
	Run(ctx context.Context, in, out map[string]*tensor.Tensor) (map[string]*tensor.Tensor, error)
	// Reset makes the state zero.
	Reset()
	// Clone makes an independent session with the same state.
	Clone() (Session, error)
	// Save writes the state; Restore reads it back, into a session of the same
	// plan or of another plan of the same model.
	Save(io.Writer) error
	Restore(io.Reader) error
	// Trace makes every later Run call f after each step; nil turns it off.
	Trace(f func(StepTime))
}

// StepTime is the measured time of one step.
type StepTime struct {
	Step   int         // index in the run
	Node   *graph.Node // nil for copies of inputs and outputs
	Kernel string
	Took   time.Duration
	Start  time.Time
	Cost   Cost // zero when the backend does not know it
}

// Cost is the least that a step has to do.
type Cost struct {
	Ops    int64  // floating-point or integer operations, a multiply-add being two
	Bytes  int64  // read and written
	Format string // of the weights, which decides what the arithmetic may reach
}

// StateKeeper is a Session whose state lives on a device. With KeepStates(true), Run leaves the outputs of state pairs
// there unless the caller gives a tensor for them: the returned map lacks them. It saves copying the state down with
// every step.
type StateKeeper interface {
	KeepStates(bool)
}

// Memory is what a session's runs need, in bytes.
type Memory struct {
	Weights int64 `json:"weights"` // stored constants
	State   int64 `json:"state"`   // that the session keeps, once
	InOut   int64 `json:"in_out"`  // inputs and outputs of the last run, kept state apart
	// Values is the most that values between the steps need at the same time, in the
	// run that needs most, and Arena the memory that they got.
	Values int64 `json:"values"`
	Arena  int64 `json:"arena"`
}

// MemoryTeller is a Session that knows what it needs.
type MemoryTeller interface {
	Memory() Memory
}
