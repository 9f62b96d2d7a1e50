// Package onnxgo is ssdc as a backend of onnx-go (github.com/owulveryck/onnx-go),
// so that programs written for onnx-go run their models on ssdc's compiler:
//
//	backend := onnxgo.NewGraph()
//	model := onnx.NewModel(backend)
//	err := model.UnmarshalBinary(data)
//	model.SetInput(0, input)
//	err = backend.Run()
//	output, err := model.GetOutputTensors()
//
// The first Run with given input shapes compiles the model for them: onnx-go
// drops symbolic lengths, so that only the tensors tell. Later Runs with these
// shapes reuse what was compiled.
//
// # What onnx-go keeps from a backend
//
// Programs that are free to choose should read models with package
// importers/onnx, which loses nothing. Onnx-go does not pass on:
//
//   - the opset. Where a later version of an operator takes other attributes or
//     inputs, those of the node tell them apart. Where only the meaning changed
//     (Softmax before 13), the newest is assumed: use Opset with OpsetOf.
//   - the domains. A name that ai.onnx lacks is looked up in the others.
//   - control flow, 16-bit floats, sequences, constants of strings and of the
//     smaller integers, and external data: onnx-go refuses such models itself.
//
// Onnx-go panics on bool constants as PyTorch writes them, and miscounts inputs
// in Model.SetInput when the file declares weights among them: Repair rewrites
// such files.
package onnxgo
