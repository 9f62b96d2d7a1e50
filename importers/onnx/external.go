package onnx

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"unsafe"

	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/importers/onnx/proto"
)

// external finds the data of tensors stored beside the model. A location is a
// path relative to the model's folder; os.Root refuses every way out of it,
// links included.
type external struct {
	dir, rel string // rel: the model's folder below the root
	err      error
	root     *os.Root
	files    map[string][]byte
	copies   map[extKey]*[]byte
	copied   int64 // bytes copied because they were not aligned
	mapped   int64
}

type extKey struct {
	location    string
	offset, len int64
}

func newExternal(dir, root string) *external {
	e := &external{dir: dir, rel: ".", files: map[string][]byte{}, copies: map[extKey]*[]byte{}}
	if root != "" && dir != "" {
		e.dir = root
		abs, err := filepath.Abs(dir)
		top, err2 := filepath.Abs(root)
		if err == nil && err2 == nil {
			e.rel, err = filepath.Rel(top, abs)
		}
		if err != nil || err2 != nil || !filepath.IsLocal(e.rel) {
			e.err = fmt.Errorf("the folder of external data %q does not contain the model's folder %q", root, dir)
		}
	}
	return e
}

func (e *external) close() {
	if e.root != nil {
		e.root.Close()
	}
}

// bytes returns the data of p, which takes want bytes.
func (e *external) bytes(p *proto.TensorProto, want int64) ([]byte, error) {
	k := extKey{len: want}
	for _, kv := range p.ExternalData {
		var err error
		switch kv.Key {
		case "location":
			k.location = kv.Value
		case "offset":
			k.offset, err = strconv.ParseInt(kv.Value, 10, 64)
		case "length":
			var n int64
			if n, err = strconv.ParseInt(kv.Value, 10, 64); err == nil && n != want {
				return nil, fmt.Errorf("external data has length %d, the type needs %d bytes", n, want)
			}
		}
		if err != nil || k.offset < 0 {
			return nil, fmt.Errorf("external data: bad %s %q", kv.Key, kv.Value)
		}
	}
	file, err := e.open(k.location)
	if err != nil {
		return nil, err
	}
	size := int64(len(file))
	if k.offset > size || want > size-k.offset {
		return nil, fmt.Errorf("external data %q: bytes %d to %d are past the end of the file (%d bytes); is the download complete?", k.location, k.offset, uint64(k.offset)+uint64(want), size)
	}
	b := file[k.offset : k.offset+want : k.offset+want]
	if want == 0 || uintptr(unsafe.Pointer(unsafe.SliceData(b)))%8 == 0 {
		return b, nil
	}
	if c := e.copies[k]; c != nil {
		return *c, nil
	}
	if e.copied += want; e.copied > 2*e.mapped+1<<26 {
		return nil, fmt.Errorf("external data %q: tensors overlap more than twice over", k.location)
	}
	c := tensor.AlignedBytes(len(b))
	copy(c, b)
	e.copies[k] = &c
	return c, nil
}

func (e *external) open(location string) ([]byte, error) {
	if b, ok := e.files[location]; ok {
		return b, nil
	}
	switch {
	case e.err != nil:
		return nil, e.err
	case e.dir == "":
		return nil, fmt.Errorf("external data %q: the model was read from memory, with no folder", location)
	case location == "" || !filepath.IsLocal(filepath.FromSlash(location)):
		return nil, fmt.Errorf("external data %q: the path must stay inside the model's folder", location)
	}
	if e.root == nil {
		root, err := os.OpenRoot(e.dir)
		if err != nil {
			return nil, err
		}
		e.root = root
	}
	path := filepath.Join(e.rel, filepath.FromSlash(location))
	info, err := e.root.Stat(path)
	if os.IsNotExist(err) {
		return nil, fmt.Errorf("external data %q is missing from %q; copy it beside the model", location, filepath.Join(e.dir, e.rel))
	}
	if err != nil {
		return nil, fmt.Errorf("external data %q: %w (links may not leave the folder; see Options.ExternalRoot)", location, err)
	}
	if !info.Mode().IsRegular() { // opening a pipe would wait
		return nil, fmt.Errorf("external data %q is not a regular file", location)
	}
	f, err := e.root.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var b []byte
	if info.Size() > 0 {
		if b, err = mapOpen(f, info.Size()); err != nil {
			return nil, err
		}
	}
	e.files[location], e.mapped = b, e.mapped+info.Size()
	return b, nil
}
