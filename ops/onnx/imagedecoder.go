package onnx

import (
	"slices"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/internal/picture"
	"github.com/ssdc-go/ssdc/ops"
)

// imageDecoderRows reads image files inside of models.
func imageDecoderRows() []*ops.Op {
	dot := []byte("P6 2 1 255\n\x01\x02\x03\x0a\x14\x1e")
	return versions("ImageDecoder", []int{20}, ops.Op{
		Doc: "the pixels [H,W,C] of an encoded image (PNG, JPEG, GIF, BMP, TIFF without compression, PNM) as RGB, BGR or Grayscale; of length 0 when it cannot be decoded",
		In:  params("encoded_stream"), Out: params("image"), Attrs: []ops.Attr{attr("pixel_format", "RGB")},
		Infer: func(c *ops.Infer) error {
			if err := want(c, 0, setOf(tensor.Uint8)); err != nil {
				return err
			}
			if err := rankIs(c, 0, 1); err != nil {
				return err
			}
			n := int64(3)
			switch f := c.Node.Attrs.Str("pixel_format", "RGB"); f {
			case "RGB", "BGR":
			case "Grayscale":
				n = 1
			default:
				return c.Errorf("attribute pixel_format is %q, want RGB, BGR or Grayscale", f)
			}
			c.Out(0, graph.T(tensor.Uint8, c.Fresh(0, 0), c.Fresh(0, 1), graph.D(n)))
			return nil
		},
		Eval: func(c *ops.Call) ([]*tensor.Tensor, error) {
			format, n := c.Node.Attrs.Str("pixel_format", "RGB"), 3
			if format == "Grayscale" {
				n = 1
			}
			p, err := picture.Decode(c.In[0].Data)
			if err != nil { // as the operator prescribes
				return one(tensor.New(tensor.Uint8, 0, 0, n)), nil
			}
			y := tensor.New(tensor.Uint8, p.H, p.W, n)
			switch format {
			case "Grayscale":
				copy(y.Data, p.Luma())
			case "BGR":
				copy(y.Data, p.Pix)
				for i := 0; i < len(y.Data); i += 3 {
					slices.Reverse(y.Data[i : i+3])
				}
			default:
				copy(y.Data, p.Pix)
			}
			return one(y), nil
		},
		Cases: []ops.Case{
			{Name: "two pixels", In: one(tensor.From(dot, len(dot))), Want: one(tensor.From([]uint8{1, 2, 3, 10, 20, 30}, 1, 2, 3))},
			{Name: "reversed", Attrs: graph.Attrs{"pixel_format": "BGR"}, In: one(tensor.From(dot, len(dot))), Want: one(tensor.From([]uint8{3, 2, 1, 30, 20, 10}, 1, 2, 3))},
			{Name: "no image", In: one(tensor.From([]uint8{1, 2}, 2)), Want: one(tensor.New(tensor.Uint8, 0, 0, 3))},
		},
	})
}
