// Package proto holds the protobuf messages of ONNX files, generated from
// ssdc's own description of the public format.
package proto

// With protoc 35.1 (also in the Python package grpcio-tools, as
// python -m grpc_tools.protoc) and protoc-gen-go v1.36.11. The Go registry
// knows the file by its name, so that is ours too.
//go:generate protoc -I. --go_out=. --go_opt=paths=source_relative ssdc_onnx_v1.proto
