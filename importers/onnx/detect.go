package onnx

import (
	"bytes"
	"encoding/binary"
)

// notONNX recognises files that people pass by mistake. It returns what the
// file is and what to do, or "" when it may be ONNX (which has no magic bytes).
func notONNX(b []byte) string {
	has := func(magic string) bool { return bytes.HasPrefix(b, []byte(magic)) }
	head := b[:min(len(b), 512)]
	at4 := func(magic string) bool { return len(b) >= 8 && string(b[4:8]) == magic }
	switch {
	case len(b) == 0:
		return "it is empty"
	case has("\x1f\x8b"):
		return "it is compressed with gzip; unpack it first (gunzip)"
	case has("BZh"), has("\xfd7zXZ"), has("\x28\xb5\x2f\xfd"), has("7z\xbc\xaf"):
		return "it is a compressed archive; unpack it first"
	case has("PK\x03\x04"), has("PK\x05\x06"):
		return zipKind(b)
	case has("version https://git-lfs"):
		return "it is a Git LFS pointer; fetch the file itself with `git lfs pull`"
	case has("\x89HDF"):
		return "it is HDF5 (Keras); convert it with tf2onnx"
	case at4("TFL3"):
		return "it is TensorFlow Lite; convert it with tf2onnx"
	case at4("ORTM"):
		return "it is ONNX Runtime's own format (.ort); use the .onnx file it was made from"
	case has("GGUF"):
		return "it is GGUF; export the original checkpoint to ONNX"
	case has("\x93NUMPY"):
		return "it is one NumPy array"
	case has("\x80\x02"), has("\x80\x03"), has("\x80\x04"), has("\x80\x05"):
		return "it is a Python pickle (an old PyTorch checkpoint?); export the model with torch.onnx.export"
	case len(b) >= 10 && b[8] == '{' && binary.LittleEndian.Uint64(b) < uint64(len(b)):
		return "it is safetensors, which holds weights without a graph; export the model with torch.onnx.export"
	case bytes.HasPrefix(bytes.ToLower(bytes.TrimSpace(head)), []byte("<!doctype")), bytes.HasPrefix(bytes.ToLower(bytes.TrimSpace(head)), []byte("<html")):
		return "it is a web page; the download went wrong"
	case has("{"), has("<"):
		return "it is text; ONNX models are binary protobuf files"
	}
	return ""
}

func zipKind(b []byte) string {
	tail := b[max(0, len(b)-1<<16):] // the directory of a zip file is at its end
	in := func(s string) bool {
		return bytes.Contains(tail, []byte(s)) || bytes.Contains(b[:min(len(b), 1<<12)], []byte(s))
	}
	switch {
	case in("archive_format"), in("serialized_exported_program"), in("models/model.json"):
		return "it is a PyTorch exported program (.pt2); export it with torch.onnx.export(ep)"
	case in("data.pkl"):
		return "it is a PyTorch checkpoint, which holds weights without a graph; export the model with torch.onnx.export"
	case in(".npy"):
		return "it is a .npz file of NumPy arrays"
	case in(".onnx"):
		return "it is a zip archive with a model inside; unpack it first (unzip)"
	}
	return "it is a zip archive; unpack it first (unzip)"
}
