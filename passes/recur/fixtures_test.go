package recur_test

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/ssdc-go/ssdc/importers/onnx"
	"github.com/ssdc-go/ssdc/ops"
	opsonnx "github.com/ssdc-go/ssdc/ops/onnx"
	"github.com/ssdc-go/ssdc/ops/ssm"
	"github.com/ssdc-go/ssdc/passes"
	"github.com/ssdc-go/ssdc/passes/canon"
	"github.com/ssdc-go/ssdc/passes/fuse"
	"github.com/ssdc-go/ssdc/passes/recur"
)

func table(t testing.TB) *ops.Table {
	tab := &ops.Table{}
	if err := opsonnx.Register(tab); err != nil {
		t.Fatal(err)
	}
	if err := ssm.Register(tab); err != nil {
		t.Fatal(err)
	}
	return tab
}

// TestFixtures: every scan of every exported model is recovered.
func TestFixtures(t *testing.T) {
	dirs, _ := filepath.Glob("../../testdata/models/*/meta.json")
	only := regexp.MustCompile(os.Getenv("FIXTURE"))
	for _, meta := range dirs {
		dir := filepath.Dir(meta)
		if !only.MatchString(filepath.Base(dir)) {
			continue
		}
		t.Run(filepath.Base(dir), func(t *testing.T) {
			data, err := os.ReadFile(meta)
			if err != nil {
				t.Fatal(err)
			}
			var m struct {
				Expect map[string]int `json:"expect_fused"`
			}
			if err := json.Unmarshal(data, &m); err != nil {
				t.Fatal(err)
			}
			tab := table(t)
			model, err := onnx.Load(filepath.Join(dir, "model.onnx"), tab, nil)
			if err != nil {
				t.Fatal(err)
			}
			c := passes.NewContext(context.Background(), tab)
			if err := (passes.Pipeline{canon.Pass, recur.Pass, recur.Absorb, fuse.Conv, fuse.Norm, fuse.Projection, canon.Cleanup}).Run(c, model.Graph); err != nil {
				t.Fatal(err)
			}
			got := map[string]int{}
			for _, n := range model.Graph.Nodes {
				got[n.Op.Domain+"."+n.Op.Name]++
			}
			for _, op := range []string{"ssm.SSD", "ssm.SelectiveScan"} {
				if got[op] != m.Expect[op] {
					t.Errorf("%s: %d, want %d", op, got[op], m.Expect[op])
				}
			}
			for _, r := range c.Remarks {
				if t.Failed() || testing.Verbose() {
					t.Log(r)
				}
			}
			if os.Getenv("SHOW") != "" {
				t.Log(model.Graph)
			}
		})
	}
}
