package main

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
	"github.com/ssdc-go/ssdc/ops/onnx"
)

// measureAttention times attentions alone, by device events. A shape is batch,heads,key heads,queries,keys,size,causal.
func measureAttention(shapes string) error {
	for _, text := range strings.Split(shapes, " ") {
		var s [7]int
		fields := strings.Split(text, ",")
		if len(fields) != len(s) {
			return fmt.Errorf("attention %q: expected batch,heads,key heads,queries,keys,size,causal", text)
		}
		for i, f := range fields {
			var err error
			if s[i], err = strconv.Atoi(f); err != nil {
				return fmt.Errorf("attention %q: %w", text, err)
			}
		}
		if err := attention(s[0], s[1], s[2], s[3], s[4], s[5], s[6]); err != nil {
			return err
		}
	}
	return nil
}

func attention(batch, heads, keyHeads, queries, keys, size, causal int) error {
	table := &ops.Table{}
	if err := onnx.Register(table); err != nil {
		return err
	}
	r, g := rand.New(rand.NewPCG(5, 6)), graph.New("attention")
	in := map[string]*tensor.Tensor{}
	input := func(name string, shape ...int) *graph.Value {
		in[name] = filled(tensor.BFloat16, r.NormFloat64, shape...)
		return g.AddInput(name, graph.TypeOf(in[name]))
	}
	n := g.Add(graph.OpID{Name: "Attention", Since: 23}, graph.Attrs{"is_causal": int64(causal)}, []*graph.Value{
		input("q", batch, heads, queries, size), input("k", batch, keyHeads, keys, size), input("v", batch, keyHeads, keys, size)}, 1, "y")
	seconds, err := timed(table, g, n.Out[0], in, 9)
	if err != nil {
		return err
	}
	flops := 4 * float64(batch*heads) * float64(queries) * float64(keys) * float64(size)
	if causal != 0 && queries == keys {
		flops /= 2
	}
	row := map[string]any{"work": fmt.Sprintf("ssdc attention, %d key heads, size %d, causal %d", keyHeads, size, causal), "B": batch, "H": heads, "L": queries, "K": keys, "P": size, "seconds": seconds}
	if queries == 1 {
		row["tbytes"] = 4 * float64(batch*keyHeads) * float64(keys) * float64(size) / seconds / 1e12
	} else {
		row["tflops"] = flops / seconds / 1e12
	}
	return json.NewEncoder(os.Stdout).Encode(row)
}
