// Model times a Mamba-2 model of any size with random weights on the CUDA backend: a prompt, then decoding.
//
//	model -layers 64 -width 2560 -batch 8 -prompt 4096
//
// The graph is what compiling an export gives: projections, convolution, SSD, gated norm. Weights are slices of one
// random block, each uploaded for itself. Every measurement is a row of JSON on standard output: the median of the
// wall-clock time of Session.Run, ids up and logits of the last position down included.
package main

import (
	"cmp"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/ssdc-go/ssdc/backends"
	"github.com/ssdc-go/ssdc/backends/cuda"
	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
	"github.com/ssdc-go/ssdc/ops/onnx"
	"github.com/ssdc-go/ssdc/ops/ssm"
)

type config struct {
	layers, width, headDim, state, vocab int
	dtype                                tensor.DType
	settings                             map[string]string
	weights                              string
}

func main() {
	c := config{headDim: 64, state: 128}
	var prompt, repeat int
	var dtype, blas, set, sizes string
	var profile bool
	var scan, shapes string
	flag.IntVar(&c.layers, "layers", 64, "blocks")
	flag.IntVar(&c.width, "width", 2560, "width of the residual stream")
	flag.IntVar(&c.vocab, "vocab", 50288, "tokens")
	flag.StringVar(&sizes, "batch", "8", "sequences; several numbers with commas between are measured one after the other")
	flag.IntVar(&prompt, "prompt", 0, "time a prompt of this length; 0: decoding")
	flag.IntVar(&repeat, "repeat", 0, "runs; 0: by the work")
	flag.StringVar(&dtype, "dtype", "bfloat16", "type of the model")
	flag.StringVar(&blas, "blas", "on", "off: our own matrix products")
	flag.StringVar(&set, "set", "", "further options of the target: overlap=off,...")
	flag.BoolVar(&profile, "profile", false, "print the device time of each kind of step to standard error")
	flag.StringVar(&scan, "scan", "", "time one scan alone, selective or ssd, at -batch and -prompt")
	flag.StringVar(&c.weights, "weights", "", "format of matrices: int8 or int4; empty: as the model's type")
	flag.StringVar(&shapes, "attention", "", "time attentions alone: batch,heads,key heads,queries,keys,size,causal, several with spaces between")
	flag.IntVar(&c.state, "state", c.state, "size of the state")
	flag.Parse()
	var batches []int
	for _, text := range strings.Split(sizes, ",") {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 {
			fail(fmt.Errorf("-batch %s: expected positive numbers with commas between", sizes))
		}
		batches = append(batches, n)
	}
	if scan == "selective" || scan == "ssd" {
		if err := measureScan(scan, batches[0], prompt, c.state); err != nil {
			fail(err)
		}
		return
	}
	if shapes != "" {
		if err := measureAttention(shapes); err != nil {
			fail(err)
		}
		return
	}
	var ok bool
	if c.dtype, ok = tensor.ParseDType(dtype); !ok {
		fail(fmt.Errorf("no type %q", dtype))
	}
	c.settings = map[string]string{"blas": blas}
	for _, o := range strings.FieldsFunc(set, func(r rune) bool { return r == ',' }) {
		k, v, _ := strings.Cut(o, "=")
		c.settings[k] = v
	}
	if err := measure(c, batches, prompt, repeat, profile); err != nil {
		fail(err)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "model:", err)
	os.Exit(1)
}

// builder makes the graph.
type builder struct {
	g      *graph.Graph
	c      config
	random map[tensor.DType][]byte
	states []backends.StatePair
	bytes  int // of weights
	flops  int // of products, for a position
}

// weight is a constant of random numbers of about the given size.
func (b *builder) weight(name string, d tensor.DType, shape ...int) *graph.Value {
	n := 1
	for _, s := range shape {
		n *= s
	}
	const block = 1 << 24
	data := b.random[d]
	if need := d.Bytes(max(n, block) + block); len(data) < need {
		t := tensor.New(d, max(n, block)+block)
		r := rand.New(rand.NewPCG(1, 2))
		for i := range block {
			t.SetAt(i, (r.Float64()-0.5)*0.05)
		}
		for at := d.Bytes(block); at < len(t.Data); {
			at += copy(t.Data[at:], t.Data[:d.Bytes(block)])
		}
		data = t.Data
		b.random[d] = data
	}
	at := len(b.g.Nodes) * 977 * d.Size() * 16 % (len(data) - d.Bytes(n) + 1)
	b.bytes += d.Bytes(n)
	return b.g.AddConst(name, &tensor.Tensor{DType: d, Shape: shape, Data: data[at : at+d.Bytes(n) : at+d.Bytes(n)]})
}

func (b *builder) filled(name string, v float64, shape ...int) *graph.Value {
	t := tensor.New(tensor.Float32, shape...)
	for i := range t.Len() {
		t.SetAt(i, v)
	}
	return b.g.AddConst(name, t)
}

func (b *builder) add(domain, op string, since int, attrs graph.Attrs, outs int, name string, in ...*graph.Value) []*graph.Value {
	return b.g.Add(graph.OpID{Domain: domain, Name: op, Since: since}, attrs, in, outs, name).Out
}

func (b *builder) linear(name string, x *graph.Value, k, n int, residual *graph.Value) *graph.Value {
	b.flops += 2 * k * n
	return b.add("ssm", "Linear", 1, nil, 1, name, x, b.weight(name+".w", b.c.dtype, k, n), nil, residual)[0]
}

func (b *builder) ints(name string, v ...int64) *graph.Value {
	return b.g.AddConst(name, tensor.Ints(v...))
}

// block is a Mamba-2 mixer with its norm and residual.
func (b *builder) block(i int, h *graph.Value) *graph.Value {
	c, f32 := b.c, tensor.Float32
	inner := 2 * c.width
	H, conv := inner/c.headDim, inner+2*c.state
	name := func(s string) string { return fmt.Sprintf("l%d.%s", i, s) }
	n := b.add("", "RMSNormalization", 23, graph.Attrs{"epsilon": float32(1e-5)}, 1, name("norm"), h, b.weight(name("norm.w"), c.dtype, c.width))[0]
	all := b.linear(name("in"), n, c.width, inner+conv+H, nil)
	zxd := b.add("", "Split", 18, graph.Attrs{"axis": int64(-1)}, 3, name("split"), all, b.ints(name("sizes"), int64(inner), int64(conv), int64(H)))
	convIn := b.g.AddInput(name("conv_in"), graph.T(c.dtype, graph.Sym("batch"), graph.D(int64(conv)), graph.D(3)))
	xbc := b.add("ssm", "CausalConv", 1, graph.Attrs{"activation": "silu"}, 2, name("conv"), zxd[1], b.weight(name("conv.w"), c.dtype, conv, 4), b.weight(name("conv.b"), c.dtype, conv), convIn)
	parts := b.add("", "Split", 18, graph.Attrs{"axis": int64(-1)}, 3, name("xbc"), xbc[0], b.ints(name("xbcsizes"), int64(inner), int64(c.state), int64(c.state)))
	shape := func(v *graph.Value, what string, last ...int64) *graph.Value {
		return b.add("", "Reshape", 14, nil, 1, name(what), v, b.ints(name(what+".shape"), append([]int64{0, 0}, last...)...))[0]
	}
	x, bm, cm := shape(parts[0], "x", int64(H), int64(c.headDim)), shape(parts[1], "B", 1, int64(c.state)), shape(parts[2], "C", 1, int64(c.state))
	ssmIn := b.g.AddInput(name("ssm_in"), graph.T(f32, graph.Sym("batch"), graph.D(int64(H)), graph.D(int64(c.headDim)), graph.D(int64(c.state))))
	y := b.add("ssm", "SSD", 1, graph.Attrs{"dt_softplus": int64(1)}, 2, name("ssd"), x, zxd[2], b.filled(name("A"), -1, H), bm, cm, b.filled(name("D"), 1, H), nil, b.filled(name("dt_bias"), -3, H), ssmIn)
	flat := shape(y[0], "y", int64(inner))
	gated := b.add("ssm", "GatedRMSNorm", 1, nil, 1, name("gate"), flat, zxd[0], b.weight(name("gate.w"), c.dtype, inner))[0]
	b.g.AddOutput(xbc[1])
	b.g.AddOutput(y[1])
	b.states = append(b.states, backends.StatePair{In: convIn.Name, Out: xbc[1].Name}, backends.StatePair{In: ssmIn.Name, Out: y[1].Name})
	return b.linear(name("out"), gated, inner, c.width, h)
}

func build(c config) (*builder, *ops.Table, error) {
	table := &ops.Table{}
	if err := onnx.Register(table); err != nil {
		return nil, nil, err
	}
	if err := ssm.Register(table); err != nil {
		return nil, nil, err
	}
	b := &builder{g: graph.New("mamba2"), c: c, random: map[tensor.DType][]byte{}}
	ids := b.g.AddInput("input_ids", graph.T(tensor.Int64, graph.Sym("batch"), graph.Sym("seq")))
	h := b.add("", "Gather", 13, nil, 1, "embed", b.weight("embed.w", c.dtype, c.vocab, c.width), ids)[0]
	b.bytes = 0 // a row for each token is read of them
	for i := range c.layers {
		h = b.block(i, h)
	}
	last := b.add("", "Slice", 13, nil, 1, "last", h, b.ints("starts", -1), b.ints("ends", math.MaxInt32), b.ints("axes", 1))[0]
	n := b.add("", "RMSNormalization", 23, graph.Attrs{"epsilon": float32(1e-5)}, 1, "norm_f", last, b.weight("norm_f.w", c.dtype, c.width))[0]
	flops := b.flops
	b.g.AddOutput(b.linear("logits", n, c.width, c.vocab, nil))
	b.flops = flops // the last position alone
	return b, table, ops.InferGraph(table, b.g)
}

func measure(c config, batches []int, prompt, repeat int, profile bool) error {
	b, table, err := build(c)
	if err != nil {
		return err
	}
	back := cuda.New(table)
	plan, err := back.Compile(b.g, backends.Target{States: b.states, Options: c.settings, Weights: c.weights})
	if err != nil {
		return err
	}
	if c.weights != "" { // what a step reads: no more than a few rows of the table of tokens
		b.bytes = 0
		for _, w := range plan.Weights {
			if w.Name != "embed.w" {
				b.bytes += w.Bytes()
			}
		}
	}
	exe, err := back.Open(plan, &sharedForms{plan, plan.Own(), map[string]*tensor.Tensor{}})
	if err != nil {
		return err
	}
	defer exe.Close()
	for _, batch := range batches {
		if err := b.measure(exe, batch, prompt, repeat, profile); err != nil {
			return err
		}
	}
	return nil
}

// measure times one size on a session of its own.
func (b *builder) measure(exe backends.Executable, batch, prompt, repeat int, profile bool) error {
	c := b.c
	s, err := exe.NewSession()
	if err != nil {
		return err
	}
	s.(backends.StateKeeper).KeepStates(true)
	length := max(prompt, 1)
	ids := tensor.New(tensor.Int64, batch, length)
	r := rand.New(rand.NewPCG(3, 4))
	in := map[string]*tensor.Tensor{"input_ids": ids}
	if repeat == 0 {
		repeat = 60
		if prompt > 0 {
			repeat = 7
		}
	}
	ctx := context.Background()
	var times []float64
	start := time.Now()
	var first time.Duration
	for i := range repeat + 3 {
		for j := range ids.Len() {
			ids.SetIntAt(j, r.Int64N(int64(c.vocab)))
		}
		if prompt > 0 {
			s.Reset()
		}
		begin := time.Now()
		out, err := s.Run(ctx, in, nil)
		if err != nil {
			return err
		}
		took := time.Since(begin)
		if i == 0 {
			first = time.Since(start)
		}
		if i >= 3 {
			times = append(times, took.Seconds())
		}
		for _, t := range out {
			if v := t.At(0); math.IsNaN(v) || math.IsInf(v, 0) {
				return fmt.Errorf("the logits are not finite")
			}
		}
	}
	sort.Float64s(times)
	t := times[len(times)/2]
	row := map[string]any{
		"seconds": t, "B": batch, "L": length, "first_run_seconds": first.Seconds(), "weight_bytes": b.bytes, "blas": c.settings["blas"],
		"work": strings.TrimSpace(fmt.Sprintf("ssdc mamba2 %d x %d %s %s", c.layers, c.width, c.dtype, c.weights)),
	}
	H := 2 * c.width / c.headDim
	stateBytes := c.layers * batch * H * c.headDim * c.state * 4 * 2
	if prompt > 0 {
		row["tflops"] = float64(b.flops) * float64(batch*length) / t / 1e12
		row["work"] = row["work"].(string) + ", prompt"
	} else {
		row["tbytes"] = float64(b.bytes+stateBytes) / t / 1e12
		row["work"] = row["work"].(string) + ", decode step"
	}
	if profile {
		times, err := s.(interface {
			Parts(int) (map[string]float32, error)
		}).Parts(max(1, min(repeat/3, 20)))
		if err != nil {
			return err
		}
		names := slices.SortedFunc(maps.Keys(times), func(a, b string) int { return cmp.Compare(times[b], times[a]) })
		for _, k := range names {
			fmt.Fprintf(os.Stderr, "%10.3f ms  %s\n", times[k], cmp.Or(k, "all"))
		}
		row["parts_ms"] = times
		if device := float64(times[""]) / 1e3; prompt == 0 && device > 0 {
			row["device_seconds"], row["device_tbytes"] = device, float64(b.bytes+stateBytes)/device/1e12
		}
	}
	return json.NewEncoder(os.Stdout).Encode(row)
}
