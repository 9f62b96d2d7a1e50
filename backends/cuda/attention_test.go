package cuda

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/ssdc-go/ssdc/backends"
	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
)

// TestFlash: attention on tensor cores against the operator's definition in float32: head sizes, groups, masks, causal with and without a
// past, single queries over long caches, lengths that fill no tile.
func TestFlash(t *testing.T) {
	needDevice(t)
	table := opTable(t)
	type shape struct {
		batch, heads, kvHeads, queries, keys, dim, vDim int
		causal, past                                    int // past: keys that come before
		mask                                            string
		softcap                                         float32
	}
	for _, d := range []tensor.DType{tensor.BFloat16, tensor.Float16} {
		for _, c := range []shape{
			{1, 2, 2, 40, 40, 64, 64, 0, 0, "", 0}, {2, 4, 2, 70, 70, 64, 64, 1, 0, "", 0}, {1, 2, 1, 130, 200, 128, 128, 0, 0, "", 0}, {1, 6, 2, 50, 50, 80, 80, 1, 0, "", 0},
			{1, 2, 2, 33, 77, 96, 96, 0, 0, "float", 0}, {2, 2, 1, 24, 65, 32, 48, 0, 0, "bool", 0}, {1, 8, 2, 1, 300, 64, 64, 0, 0, "", 0}, {2, 4, 4, 1, 1, 128, 128, 0, 0, "", 0},
			{1, 4, 1, 3, 97, 128, 64, 1, 94, "", 0}, {1, 2, 2, 20, 52, 64, 64, 1, 32, "float", 0}, {1, 16, 1, 1, 500, 80, 80, 0, 0, "bool", 0}, {1, 2, 1, 40, 64, 40, 40, 0, 0, "", 30}, {1, 1, 1, 18, 700, 16, 16, 0, 0, "none", 0},
		} {
			t.Run(fmt.Sprint(d, c), func(t *testing.T) {
				g := graph.New("attention")
				var values []*graph.Value
				feeds := map[string]*tensor.Tensor{}
				var args []*tensor.Tensor
				add := func(name string, x *tensor.Tensor) {
					values = append(values, g.AddInput(name, graph.TypeOf(x)))
					feeds[name] = x
					args = append(args, wide(x))
				}
				current := c.keys - c.past
				add("q", random(1, d, c.batch, c.heads, c.queries, c.dim))
				add("k", random(2, d, c.batch, c.kvHeads, current, c.dim))
				add("v", random(3, d, c.batch, c.kvHeads, current, c.vDim))
				switch c.mask {
				case "float":
					add("mask", random(4, d, c.queries, c.keys))
				case "bool", "none":
					m := tensor.New(tensor.Bool, c.queries, c.keys)
					for i := range m.Len() {
						if c.mask == "bool" && i%3 != 0 && i/c.keys%5 != 2 { // some rows see nothing
							m.Data[i] = 1
						}
					}
					add("mask", m)
				default:
					values, args = append(values, nil), append(args, nil)
				}
				outs := 1
				if c.past > 0 {
					add("past_k", random(5, d, c.batch, c.kvHeads, c.past, c.dim))
					add("past_v", random(6, d, c.batch, c.kvHeads, c.past, c.vDim))
					outs = 3
				}
				n := g.Add(graph.OpID{Name: "Attention", Since: 23}, graph.Attrs{"is_causal": int64(c.causal), "softcap": c.softcap}, values, outs, "y")
				n.TrimIn()
				g.AddOutput(n.Out[0])
				if err := ops.InferGraph(table, g); err != nil {
					t.Fatal(err)
				}
				e, _ := open(t, g, backends.Target{})
				s := session_(t, e)
				got, err := s.Run(context.Background(), feeds, nil)
				if err != nil {
					t.Fatal(err)
				}
				if !slices.ContainsFunc(slices.Collect(maps.Keys(e.dev.found)), func(name string) bool {
					return strings.HasPrefix(name, "flash_bf16_") || strings.HasPrefix(name, "flash_f16_")
				}) {
					t.Errorf("kernels are %v", slices.Collect(maps.Keys(e.dev.found)))
				}
				ref, _ := g.Clone()
				for _, v := range ref.Inputs {
					if v.Type.DType == d {
						v.Type.DType = tensor.Float32
					}
				}
				if err := ops.InferGraph(table, ref); err != nil {
					t.Fatal(err)
				}
				in := slices.DeleteFunc(slices.Clone(args), func(x *tensor.Tensor) bool { return x == nil })
				want, err := ops.Run(context.Background(), table, ref, in)
				if err != nil {
					t.Fatal(err)
				}
				if dist, err := distance(wide(got["y"]), want[0]); err != nil || !(dist <= limit(d)) {
					t.Errorf("distance %.2e %v", dist, err)
				}
			})
		}
	}
}
