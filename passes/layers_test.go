package passes_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/ops"
	"github.com/ssdc-go/ssdc/passes"
	"github.com/ssdc-go/ssdc/passes/canon"
	"github.com/ssdc-go/ssdc/passes/fuse"
	"github.com/ssdc-go/ssdc/passes/recur"
)

var pipeline = passes.Pipeline{canon.Pass, recur.Pass, recur.Absorb, fuse.Conv, fuse.Norm, fuse.Projection, canon.Cleanup}

// layers writes a graph of n decode steps, one after the other, each with
// parameters of its own.
func layers(n int) string {
	var in, out, consts, nodes strings.Builder
	in.WriteString("float[B,2,3] x0, float[B,2] raw, float[B,4] b, float[B,4] c")
	for i := range n {
		fmt.Fprintf(&in, ", float[B,2,3,4] past%d", i)
		fmt.Fprintf(&out, ", float[B,2,3,4] present%d", i)
		f := 1 + float64(i)/8
		fmt.Fprintf(&consts, "  float[2,1,1] A%d = {%g, %g}\n  float[2] bias%d = {%g, %g}\n  float[2,1] D%d = {%g, %g}\n", i, -f, -2*f, i, f/4, f/2, i, f, 3*f)
		s := `  float[B,2] t# = Add-14 (raw, bias#)
  float[B,2] dt# = Softplus-1 (t#)
  float[B,2,1,1] dt4# = Unsqueeze-13 (dt#, u23)
  float[B,2,1,1] log# = Mul-14 (dt4#, A#)
  float[B,2,1,1] e# = Exp-13 (log#)
  float[B,2,3,4] ds# = Mul-14 (past#, e#)
  float[B,2,3,1] x4# = Unsqueeze-13 (x#, u3)
  float[B,1,1,4] b4# = Unsqueeze-13 (b, u12)
  float[B,2,1,4] db# = Mul-14 (dt4#, b4#)
  float[B,2,3,4] up# = Mul-14 (x4#, db#)
  float[B,2,3,4] present# = Add-14 (ds#, up#)
  float[B,1,1,4] c4# = Unsqueeze-13 (c, u12)
  float[B,2,3,4] sc# = Mul-14 (present#, c4#)
  float[B,2,3] y# = ReduceSum-13 <keepdims: int = 0> (sc#, last)
  float[B,2,3] Dx# = Mul-14 (x#, D#)
  float[B,2,3] x+ = Add-14 (y#, Dx#)
`
		nodes.WriteString(strings.NewReplacer("#", fmt.Sprint(i), "+", fmt.Sprint(i+1)).Replace(s))
	}
	return fmt.Sprintf("graph layers (%s) => (float[B,2,3] x%d%s)\n<\n%s  int64[2] u23 = {2, 3}\n  int64[2] u12 = {1, 2}\n  int64[1] u3 = {3}\n  int64[1] last = {-1}\n> {\n%s}\n",
		in.String(), n, out.String(), consts.String(), nodes.String())
}

// compile runs the pipeline and returns how many scans and certificates there are.
func compile(t *testing.T, text string) (scans, certificates int, took time.Duration) {
	t.Helper()
	tab := table(t)
	g, err := graph.ParseString(text)
	if err != nil {
		t.Fatal(err)
	}
	if err := ops.InferGraph(tab, g); err != nil {
		t.Fatal(err)
	}
	c := passes.NewContext(context.Background(), tab)
	start := time.Now()
	if err := pipeline.Run(c, g); err != nil {
		t.Fatal(err)
	}
	took = time.Since(start)
	for _, n := range g.Nodes {
		if n.Op.Domain == "ssm" && (n.Op.Name == "SSD" || n.Op.Name == "SelectiveScan") {
			scans++
		}
	}
	if testing.Verbose() {
		for _, r := range c.Remarks {
			if !r.Done {
				t.Log(r)
			}
		}
	}
	return scans, len(c.Cache), took
}

// TestLayersShareCertificates: what one layer was certified for holds for the
// next, although their parameters differ.
func TestLayersShareCertificates(t *testing.T) {
	_, two, _ := compile(t, layers(2)) // the first reads an input, the second a layer
	scans, many, took := compile(t, layers(24))
	t.Logf("24 layers: %d scans, %d certificates (%d for two layers), %v", scans, many, two, took)
	if scans != 24 || many != two {
		t.Errorf("24 layers: %d scans and %d certificates, want 24 and %d", scans, many, two)
	}
}

// trace writes a traced Mamba scan of n steps.
func trace(n int) string {
	var s strings.Builder
	fmt.Fprintf(&s, `graph trace (float[1,2,%[1]d,1] dt, float[1,2,%[1]d,1] u, float[1,1,%[1]d,4] b, float[1,%[1]d,4] c, float[1,2,4] s0) => (float[1,2,%[1]d] y)
<
  float[2,1,4] A = {-0.5, -1, -1.5, -2, -0.25, -0.75, -1.25, -1.75}
  int64[1] u2 = {2}
`, n)
	for t := range n {
		fmt.Fprintf(&s, "  int64[] t%d = {%d}\n", t, t)
	}
	fmt.Fprintf(&s, `> {
  float[1,2,%[1]d,4] log = Mul-14 (A, dt)
  float[1,2,%[1]d,4] dA = Exp-13 (log)
  float[1,2,%[1]d,4] dB = Mul-14 (dt, b)
  float[1,2,%[1]d,4] dBu = Mul-14 (dB, u)
`, n)
	ys := make([]string, n)
	for t := range n {
		fmt.Fprintf(&s, `  float[1,2,4] a%[1]d = Gather-13 <axis: int = 2> (dA, t%[1]d)
  float[1,2,4] g%[1]d = Gather-13 <axis: int = 2> (dBu, t%[1]d)
  float[1,2,4] d%[1]d = Mul-14 (a%[1]d, s%[1]d)
  float[1,2,4] s%[2]d = Add-14 (d%[1]d, g%[1]d)
  float[1,4] c%[1]d = Gather-13 <axis: int = 1> (c, t%[1]d)
  float[1,4,1] k%[1]d = Unsqueeze-13 (c%[1]d, u2)
  float[1,2,1] y%[1]d = MatMul-13 (s%[2]d, k%[1]d)
`, t, t+1)
		ys[t] = fmt.Sprintf("y%d", t)
	}
	fmt.Fprintf(&s, "  float[1,2,%d] y = Concat-13 <axis: int = 2> (%s)\n}\n", n, strings.Join(ys, ", "))
	return s.String()
}

// TestTraceIsLinear: eight times the steps take about eight times as long, not
// sixty-four. The bound is loose, for a busy machine.
func TestTraceIsLinear(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	scans, _, short := compile(t, trace(128))
	more, _, long := compile(t, trace(1024))
	t.Logf("128 steps: %v, 1024 steps: %v", short, long)
	if scans != 1 || more != 1 {
		t.Errorf("%d and %d scans, want 1 each", scans, more)
	}
	if long > 30*short {
		t.Errorf("128 steps took %v, 1024 steps %v: more than linear", short, long)
	}
}
