package tensor

import (
	"slices"
	"strings"
	"testing"
)

// TestMap: entries are ordered by key, whatever their type; keys are all different.
func TestMap(t *testing.T) {
	for _, c := range []struct {
		keys, values *Tensor
		want         []float64
	}{
		{FromStrings([]string{"b", "", "a"}, 3), From([]float32{1, 2, 3}, 3), []float64{2, 3, 1}},
		{Ints(-1, 5, -7), From([]int8{1, 2, 3}, 3), []float64{3, 1, 2}},
		{From([]uint64{1 << 63, 1}, 2), From([]float64{1, 2}, 2), []float64{2, 1}},
		{Ints(), From([]float32{}, 0), nil},
	} {
		m, err := NewMap(c.keys, c.values)
		if err != nil {
			t.Fatal(err)
		}
		if keys, values := m.Entries(); keys.Len() != len(c.want) || !slices.Equal(values.AsFloats(), c.want) {
			t.Errorf("%s: %v, want %v", m.TypeString(), values.AsFloats(), c.want)
		}
	}
	small := New(Int4, 3)
	for i := range 3 {
		small.SetIntAt(i, int64(i)-1)
	}
	m, err := NewMap(Ints(3, 2, 1), small)
	if err != nil || m.Elems[1].IntAt(0) != 1 || m.Elems[1].IntAt(2) != -1 {
		t.Errorf("4-bit values: %v", err)
	}
	for want, kv := range map[string][2]*Tensor{
		`the key "a" twice`: {FromStrings([]string{"a", "a"}, 2), Ints(1, 2)},
		"the key 4 twice":   {Ints(4, 2, 4), Ints(1, 2, 3)},
		"as many of both":   {Ints(4, 2), Ints(1, 2, 3)},
		"single elements":   {From([]float32{1}, 1), Ints(1)},
		"to single":         {Ints(1), Seq(Ints(1))},
	} {
		if _, err := NewMap(kv[0], kv[1]); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}
