package ssdc_test

import (
	"bytes"
	"context"
	"path/filepath"
	"testing"

	"github.com/ssdc-go/ssdc"
	"github.com/ssdc-go/ssdc/backends/cuda/driver"
	"github.com/ssdc-go/ssdc/graph/tensor"
)

// needCUDA skips where the driver, real or emulated (backends/cuda/kernels/emulate, named by SSDC_LIBCUDA), is missing.
func needCUDA(t *testing.T) {
	t.Helper()
	if all, err := driver.Devices(); err != nil || len(all) == 0 {
		t.Skip("no device: ", err)
	}
}

// TestParityCUDA: the CUDA backend agrees with PyTorch in float64, in f32 as the CPU does and with compute=bf16 within what
// 8 bits of fraction leave; every model runs three times, the last two as a graph.
func TestParityCUDA(t *testing.T) {
	needCUDA(t)
	fixtures(t, func(t *testing.T, dir string, expect map[string]int) {
		for _, way := range []struct {
			name  string
			set   map[string]string
			limit float64
		}{
			{"f32", nil, 1e-5},
			{"own-products", map[string]string{"blas": "off", "graphs": "off"}, 1e-5},
			{"bf16", map[string]string{"compute": "bf16"}, 3e-2},
		} {
			t.Run(way.name, func(t *testing.T) {
				m, err := ssdc.Compile(context.Background(), filepath.Join(dir, "model.onnx"), ssdc.Options{Target: "cuda", RequireFusion: expect, NoStates: true, Settings: way.set})
				if err != nil {
					t.Fatal(err)
				}
				defer m.Close()
				s, err := m.NewSession()
				if err != nil {
					t.Fatal(err)
				}
				sets, _ := filepath.Glob(filepath.Join(numbers(t, dir), "inputs*.npz"))
				for _, path := range sets {
					in, _, err := tensor.ReadNpz(path)
					if err != nil {
						t.Fatal(err)
					}
					want, _, err := tensor.ReadNpz(filepath.Join(filepath.Dir(path), "expected"+filepath.Base(path)[len("inputs"):]))
					if err != nil {
						t.Fatal(err)
					}
					for round := range 3 {
						got, err := s.Run(context.Background(), in)
						if err != nil {
							t.Fatalf("%s: %v", filepath.Base(path), err)
						}
						limit := max(way.limit, readMeta(t, dir).Limit) // float16 models are held to what 16 bits leave
						for name, w := range want {
							if e := relError(t, got[name], w); !(e <= limit) {
								t.Errorf("%s run %d %s: relative error %.2e, at most %.0e", filepath.Base(path), round, name, e, limit)
							}
						}
					}
				}
			})
		}
	})
}

// TestStatesCUDA: a session that keeps its state on the device gives what one on the CPU gives, step after step, and its state can
// be cloned, saved and restored, also into a session on the CPU.
func TestStatesCUDA(t *testing.T) {
	needCUDA(t)
	for _, name := range []string{"mamba2_dynamo_dyn_decode_g2", "mamba1_ts_dyn_decode", "mamba2_hf4_dynamo_dyn_decode_g2_stacked"} {
		t.Run(name, func(t *testing.T) {
			ctx := context.Background()
			path := filepath.Join("testdata/models", name, "model.onnx")
			in, _, err := tensor.ReadNpz(filepath.Join("testdata/models", name, "inputs.npz"))
			if err != nil {
				t.Fatal(err)
			}
			open := func(target string) *ssdc.Model {
				m, err := ssdc.Compile(ctx, path, ssdc.Options{Target: target})
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { m.Close() })
				return m
			}
			session := func(m *ssdc.Model) *ssdc.Session {
				s, err := m.NewSession()
				if err != nil {
					t.Fatal(err)
				}
				return s
			}
			gpu, cpu := open("cuda"), open("cpu")
			if len(gpu.States()) == 0 {
				t.Fatal("no states were found")
			}
			for _, n := range gpu.States() {
				delete(in, n)
			}
			s, ref := session(gpu), session(cpu)
			same := func(what string, a, b *ssdc.Session) {
				t.Helper()
				got, err := a.Run(ctx, in)
				if err != nil {
					t.Fatalf("%s: %v", what, err)
				}
				want, err := b.Run(ctx, in)
				if err != nil {
					t.Fatalf("%s: %v", what, err)
				}
				for k, w := range want {
					if e := relError(t, got[k], w); !(e <= 2e-5) {
						t.Errorf("%s %s: relative error %.2e", what, k, e)
					}
				}
			}
			for range 4 {
				same("step", s, ref)
			}
			twin, err := s.Clone()
			if err != nil {
				t.Fatal(err)
			}
			var saved bytes.Buffer
			if err := s.Save(&saved); err != nil {
				t.Fatal(err)
			}
			back := session(cpu)
			if err := back.Restore(bytes.NewReader(saved.Bytes())); err != nil {
				t.Fatal(err)
			}
			same("after clone", twin, back)
			same("after clone", s, ref)
			if err := s.Restore(bytes.NewReader(saved.Bytes())); err != nil {
				t.Fatal(err)
			}
			if err := ref.Restore(bytes.NewReader(saved.Bytes())); err != nil {
				t.Fatal(err)
			}
			same("after restore", s, ref)
			s.Reset()
			ref.Reset()
			same("after reset", s, ref)
		})
	}
}

// TestWeightsCUDA: artifacts for the device hold the numbers that those for the processor hold, in the same size, and are no farther from
// PyTorch's float64 logits: the processor rounds activations as well.
func TestWeightsCUDA(t *testing.T) {
	needCUDA(t)
	want, _, err := tensor.ReadNpz(prefill + "/expected.npz")
	if err != nil {
		t.Fatal(err)
	}
	for _, format := range []string{"bf16", "int8", "int4"} {
		run := func(target string, set map[string]string) (*tensor.Tensor, int64) {
			t.Helper()
			c, err := ssdc.Build(context.Background(), prefill+"/model.onnx", ssdc.Options{Weights: format, Target: target, Settings: set})
			if err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(t.TempDir(), target+".ssda")
			if err := c.Write(path); err != nil {
				t.Fatal(err)
			}
			m, err := ssdc.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			size := m.Artifact().Size()
			return runFixture(t, m, prefill)["logits"], int64(size)
		}
		cpu, cpuSize := run("cpu", nil)
		gpu, gpuSize := run("cuda", nil)
		narrow, _ := run("cuda", map[string]string{"compute": "bf16"})
		off := distance(cpu, want["logits"])
		if e := distance(gpu, want["logits"]); !(e <= 1.05*off) {
			t.Errorf("%s: relative error %.4f of the logits, on the processor %.4f", format, e, off)
		} else {
			t.Logf("%s: relative error %.4f, on the processor %.4f, apart %.4f", format, e, off, distance(gpu, cpu))
		}
		if e := distance(narrow, want["logits"]); !(e <= 1.05*off+3e-2) {
			t.Errorf("%s in bfloat16: relative error %.4f of the logits, on the processor %.4f", format, e, off)
		}
		if gpuSize > cpuSize+cpuSize/20 {
			t.Errorf("%s: %d bytes, for the processor %d", format, gpuSize, cpuSize)
		}
	}
}
