package onnx

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
)

// castRows convert element types: Cast to the type named by an attribute,
// CastLike to that of another tensor, BitCast without touching the bits.
func castRows() []*ops.Op {
	saturate, round := attr("saturate", int64(1)), attr("round_mode", "up")
	seed := tensor.From([]float32{-1.7, 0, 2.5}, 3)
	cast := ops.Op{Doc: "the input converted to element type `to`: floats truncate toward zero, anything non-zero is true",
		In: params("input"), Out: params("output"), Attrs: []ops.Attr{attr("to", nil)}, Traits: ops.Elementwise,
		Infer: func(c *ops.Infer) error {
			to := c.Node.Attrs.Int("to", 0)
			if to <= 0 || to > math.MaxUint8 {
				return c.Errorf("attribute to is %d, which names no element type", to)
			}
			return inferCast(c, tensor.DType(to))
		},
		Eval: func(c *ops.Call) ([]*tensor.Tensor, error) {
			return castOne(c, tensor.DType(c.Node.Attrs.Int("to", 0)))
		},
		Cases: []ops.Case{{Name: "float to int64", Attrs: graph.Attrs{"to": int64(tensor.Int64)}, In: one(seed), Want: one(tensor.Ints(-1, 0, 2))}},
	}
	rows := versions("Cast", []int{6, 9, 13}, cast)
	cast.Attrs = append(cast.Attrs, saturate)
	rows = append(rows, versions("Cast", []int{19, 21, 23}, cast)...)
	cast.Attrs = append(cast.Attrs, round)
	rows = append(rows, versions("Cast", []int{24, 25, 28}, cast)...)

	like := ops.Op{Doc: "the input converted to the element type of target_type", In: params("input", "target_type"), Out: params("output"),
		Attrs: noAttrs, Traits: 0,
		Infer: func(c *ops.Infer) error { return inferCast(c, c.Type(1).DType) },
		Eval:  func(c *ops.Call) ([]*tensor.Tensor, error) { return castOne(c, c.In[1].DType) },
		Cases: []ops.Case{{Name: "float to bool", In: []*tensor.Tensor{seed, tensor.Scalar(true)}, Want: one(tensor.From([]bool{true, false, true}, 3))}},
	}
	rows = append(rows, versions("CastLike", []int{15}, like)...)
	like.Attrs = []ops.Attr{saturate}
	rows = append(rows, versions("CastLike", []int{19, 21, 23}, like)...)
	like.Attrs = []ops.Attr{saturate, round}
	rows = append(rows, versions("CastLike", []int{24, 25}, like)...)

	return append(rows, versions("BitCast", []int{26}, ops.Op{
		Doc: "the input's bits read as an element type `to` of the same width",
		In:  params("input"), Out: params("output"), Attrs: []ops.Attr{attr("to", nil)}, Traits: ops.Elementwise,
		Infer: func(c *ops.Infer) error {
			to := tensor.DType(c.Node.Attrs.Int("to", 0))
			if d := c.Type(0).DType; d != tensor.Undefined && d.Bits() != to.Bits() || to.Bits() == 0 {
				return c.Errorf("cannot read %v as %v: elements of %d and %d bits, want the same width", d, to, d.Bits(), to.Bits())
			}
			c.Out(0, withDType(c.Type(0), to))
			return nil
		},
		Eval: func(c *ops.Call) ([]*tensor.Tensor, error) {
			out := tensor.New(tensor.DType(c.Node.Attrs.Int("to", 0)), c.In[0].Shape...)
			copy(out.Data, c.In[0].Data)
			return one(out), nil
		},
		Cases: []ops.Case{{Name: "float to int32", Attrs: graph.Attrs{"to": int64(tensor.Int32)}, In: one(tensor.Scalar(float32(1))), Want: one(tensor.Scalar(int32(0x3f800000)))}},
	})...)
}

func inferCast(c *ops.Infer, to tensor.DType) error {
	if err := want(c, 0, castTypes); err != nil {
		return err
	}
	if to != tensor.Undefined && !castTypes.Has(to) {
		return c.Errorf("cannot cast to %v, want one of %v", to, castTypes)
	}
	c.OutKnown(0, withDType(c.Type(0), to), mapKnown(c, func(d graph.Dim) (graph.Dim, bool) { return castKnown(d, to) }))
	return nil
}

// castKnown follows a length through an integer cast. 32-bit casts of
// symbolic lengths are assumed not to wrap, as tensors are smaller than that.
func castKnown(d graph.Dim, to tensor.DType) (graph.Dim, bool) {
	n, isConst := d.Const()
	switch {
	case to == tensor.Bool && isConst:
		return graph.D(b2i(n != 0)), true
	case to == tensor.Bool:
		return graph.D(1), d.AtLeast(graph.D(1))
	case to == tensor.Int64 || to == tensor.Int32 && (!isConst || n == int64(int32(n))):
		return d, true
	case isConst && intTypes.Has(to):
		t := tensor.New(to, 1)
		t.SetIntAt(0, n)
		return d, t.IntAt(0) == n
	}
	return graph.Dim{}, false
}

func castOne(c *ops.Call, to tensor.DType) ([]*tensor.Tensor, error) {
	out, err := castTensor(c.In[0], to, c.Node.Attrs.Int("saturate", 1) != 0, c.Node.Attrs.Str("round_mode", "up"))
	if err != nil {
		return nil, err
	}
	return one(out), nil
}

func castTensor(x *tensor.Tensor, to tensor.DType, saturate bool, round string) (*tensor.Tensor, error) {
	out := tensor.New(to, x.Shape...)
	n := x.Len()
	switch {
	case to == x.DType:
		copy(out.Data, x.Data)
		copy(out.Strings, x.Strings)
	case x.DType == tensor.String:
		return out, parseStrings(out, x)
	case to == tensor.String:
		for i := range n {
			out.Strings[i] = formatElement(x, i)
		}
	case to == tensor.Float8E8M0:
		for i := range n {
			out.Data[i] = encodeE8M0(float32(x.At(i)), saturate, round)
		}
	case float8Types.Has(to) && !saturate && to != tensor.Float4E2M1:
		for i := range n {
			out.SetAt(i, x.At(i))
			if b, over := float8Overflow(to, x.At(i)); over {
				out.Data[i] = b
			}
		}
	case to == tensor.Float32 && (x.DType == tensor.Int64 || x.DType == tensor.Uint64): // one rounding, not two
		o := tensor.Of[float32](out)
		for i := range n {
			if v := x.IntAt(i); x.DType == tensor.Uint64 {
				o[i] = float32(uint64(v))
			} else {
				o[i] = float32(v)
			}
		}
	case x.DType.IsFloat() || to.IsFloat():
		for i := range n {
			out.SetAt(i, x.At(i))
		}
	default:
		for i := range n {
			out.SetIntAt(i, x.IntAt(i))
		}
	}
	return out, nil
}

// encodeE8M0 keeps only the exponent, as the Cast-24 table says: the sign is
// dropped, NaN and infinity become NaN (255).
func encodeE8M0(v float32, saturate bool, round string) uint8 {
	b := math.Float32bits(v)
	e, frac := uint8(b>>23), b&0x7fffff
	if e == 255 {
		return 255
	}
	up := round == "up" && frac > 0 || round == "nearest" && frac >= 0x400000 && (e > 0 || frac > 0x400000)
	if up && (e < 254 || !saturate) {
		e++
	}
	return e
}

// float8Overflow is the bit pattern of a value too large for type d when the
// cast does not saturate: infinity where the format has one, else NaN.
func float8Overflow(d tensor.DType, v float64) (uint8, bool) {
	a, sign := math.Abs(v), uint8(0)
	if math.Signbit(v) {
		sign = 0x80
	}
	switch d {
	case tensor.Float8E4M3:
		return sign | 0x7f, a > 464
	case tensor.Float8E4M3UZ:
		return 0x80, a >= 248
	case tensor.Float8E5M2:
		return sign | 0x7c, a >= 61440
	}
	return 0x80, a >= 61440
}

// formatElement prints the shortest text that reads back as the same value.
func formatElement(x *tensor.Tensor, i int) string {
	switch {
	case x.DType == tensor.Bool:
		if x.IntAt(i) != 0 {
			return "True"
		}
		return "False"
	case x.DType == tensor.Uint64:
		return strconv.FormatUint(uint64(x.IntAt(i)), 10)
	case !x.DType.IsFloat():
		return strconv.FormatInt(x.IntAt(i), 10)
	}
	v, width := x.At(i), 32
	if x.DType == tensor.Float64 {
		width = 64
	}
	a := math.Abs(v)
	switch {
	case math.IsNaN(v):
		return "nan"
	case math.IsInf(v, 0):
		return strings.ToLower(strings.TrimPrefix(fmt.Sprint(v), "+"))
	case a != 0 && (a < 1e-4 || a >= 1e16):
		return strconv.FormatFloat(v, 'e', -1, width)
	}
	s := strconv.FormatFloat(v, 'f', -1, width)
	if !strings.Contains(s, ".") {
		s += ".0"
	}
	return s
}

func parseStrings(out, x *tensor.Tensor) error {
	for i, s := range x.Strings {
		s = strings.TrimSpace(s)
		switch {
		case out.DType.IsFloat():
			v, err := strconv.ParseFloat(s, 64)
			if err != nil && !math.IsInf(v, 0) {
				return fmt.Errorf("element %d: %q is not a number", i, s)
			}
			if out.DType == tensor.Float32 {
				w, _ := strconv.ParseFloat(s, 32) // one rounding
				v = w
			}
			out.SetAt(i, v)
		case out.DType == tensor.Uint64:
			v, err := strconv.ParseUint(s, 10, 64)
			if err != nil {
				return fmt.Errorf("element %d: %q is not an unsigned integer", i, s)
			}
			out.SetIntAt(i, int64(v))
		case out.DType == tensor.Bool:
			out.SetIntAt(i, b2i(s != "" && s != "0" && !strings.EqualFold(s, "false")))
		default:
			v, err := strconv.ParseInt(s, 10, 64)
			if err != nil {
				return fmt.Errorf("element %d: %q is not an integer", i, s)
			}
			out.SetIntAt(i, v)
		}
	}
	return nil
}
