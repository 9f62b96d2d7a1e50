package onnxgo_test

import (
	"fmt"

	"github.com/owulveryck/onnx-go"
	pb "google.golang.org/protobuf/proto"
	gt "gorgonia.org/tensor"

	"github.com/ssdc-go/ssdc/importers/onnx/proto"
	"github.com/ssdc-go/ssdc/importers/onnxgo"
)

// file is y = x*x, as bytes of an ONNX file.
func file() []byte {
	data, err := pb.Marshal(&proto.ModelProto{
		IrVersion: 8, OpsetImport: []*proto.OperatorSetIdProto{{Version: 16}},
		Graph: &proto.GraphProto{
			Name: "square", Input: []*proto.ValueInfoProto{info("x", "n")}, Output: []*proto.ValueInfoProto{info("y", "n")},
			Node: []*proto.NodeProto{node("y = Mul(x, x)")},
		},
	})
	if err != nil {
		panic(err)
	}
	return data
}

// A program of onnx-go; only NewGraph is ssdc's.
func Example() {
	backend := onnxgo.NewGraph()
	defer backend.Close()
	model := onnx.NewModel(backend)
	if err := model.UnmarshalBinary(file()); err != nil {
		fmt.Println(err)
		return
	}
	if err := model.SetInput(0, gt.New(gt.WithShape(3), gt.WithBacking([]float32{1, 2, 3}))); err != nil {
		fmt.Println(err)
		return
	}
	if err := backend.Run(); err != nil {
		fmt.Println(err)
		return
	}
	output, err := model.GetOutputTensors()
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(output[0].Data())
	// Output: [1 4 9]
}

// With the file's opset, and repaired for onnx-go.
func ExampleRepair() {
	data := file()
	opset, err := onnxgo.OpsetOf(data)
	if err != nil {
		fmt.Println(err)
		return
	}
	if data, err = onnxgo.Repair(data); err != nil {
		fmt.Println(err)
		return
	}
	model := onnx.NewModel(onnxgo.NewGraph(onnxgo.Opset(opset)))
	fmt.Println(opset, model.UnmarshalBinary(data))
	// Output: 16 <nil>
}
