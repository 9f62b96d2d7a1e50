package carry

import (
	"context"
	"strings"
	"testing"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/ops"
	"github.com/ssdc-go/ssdc/ops/onnx"
	"github.com/ssdc-go/ssdc/ops/ssm"
	"github.com/ssdc-go/ssdc/passes"
)

// TestCarry: a convolution and a scan from zero get states; a scan that has one keeps it.
func TestCarry(t *testing.T) {
	table := &ops.Table{}
	if err := onnx.Register(table); err != nil {
		t.Fatal(err)
	}
	if err := ssm.Register(table); err != nil {
		t.Fatal(err)
	}
	g, err := graph.ParseString(`graph carry (float[B,L,4] x, float[B,L,4] a, float[B,4] h0) => (float[B,L,4] y, float[B,4] present_h)
<
  float[4,3] w = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}
> {
  float[B,L,4] c = ssm.CausalConv-1 <activation: string = "silu"> (x, w)
  float[B,L,4] s, float[B,4] present_h = ssm.LinearScan-1 (a, c, h0)
  float[B,L,4] y = ssm.LinearScan-1 (a, s)
}
`)
	if err != nil {
		t.Fatal(err)
	}
	if err := ops.InferGraph(table, g); err != nil {
		t.Fatal(err)
	}
	c := passes.NewContext(context.Background(), table)
	if err := passes.RunOne(c, Pass, g); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"float[B,L,4] a, float[B,4] h0, float[B,4,2] past_causalconv_0, float[B,4] past_linearscan_0) =>",
		"float[B,4] present_h, float[B,4,2] present_causalconv_0, float[B,4] present_linearscan_0)",
		"(x, w, _, past_causalconv_0)",
		"(a, c, h0)",
		"(a, s, past_linearscan_0)",
	} {
		if !strings.Contains(g.String(), want) {
			t.Errorf("no %q in\n%s", want, g)
		}
	}
	if len(c.Remarks) != 2 || !c.Remarks[0].Done {
		t.Errorf("remarks %v", c.Remarks)
	}
}
