package tensor

import (
	"archive/zip"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/ssdc-go/ssdc/internal/wholefile"
)

// ReadNpz reads every array of a .npz file (a zip archive of .npy files, stored
// or deflated) and lists their names in file order.
func ReadNpz(path string) (map[string]*Tensor, []string, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, nil, err
	}
	ts, names, err := ReadNpzFrom(f, info.Size())
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", path, err)
	}
	return ts, names, nil
}

// ReadNpzFrom is ReadNpz on size bytes of r.
func ReadNpzFrom(r io.ReaderAt, size int64) (map[string]*Tensor, []string, error) {
	z, err := zip.NewReader(r, size)
	if err != nil {
		return nil, nil, fmt.Errorf("not a .npz file: %w", err)
	}
	ts := map[string]*Tensor{}
	var names []string
	for _, f := range z.File {
		name, ok := strings.CutSuffix(f.Name, ".npy")
		if !ok {
			return nil, nil, fmt.Errorf("npz: entry %q is not a .npy file", f.Name)
		}
		if ts[name] != nil {
			return nil, nil, fmt.Errorf("npz: two arrays are named %q", name)
		}
		t, err := readZipped(f)
		if err != nil {
			return nil, nil, fmt.Errorf("npz: array %q: %w", name, err)
		}
		ts[name] = t
		names = append(names, name)
	}
	return ts, names, nil
}

func readZipped(f *zip.File) (*Tensor, error) {
	r, err := f.Open()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	t, err := ReadNpy(r)
	if err != nil {
		return nil, err
	}
	// Reading to the end makes archive/zip compare the checksum.
	switch n, err := io.CopyN(io.Discard, r, 1); {
	case n > 0:
		return nil, fmt.Errorf("data after the array %s", t.TypeString())
	case err != io.EOF:
		return nil, err
	}
	return t, nil
}

// WriteNpz writes named arrays, uncompressed, as numpy.savez does. The bytes
// depend on the arguments alone: entries carry no time.
func WriteNpz(w io.Writer, names []string, tensors []*Tensor) error {
	if len(names) != len(tensors) {
		return fmt.Errorf("npz: %d names for %d tensors", len(names), len(tensors))
	}
	seen := map[string]bool{}
	z := zip.NewWriter(w)
	for i, name := range names {
		if seen[name] {
			return fmt.Errorf("npz: two arrays are named %q", name)
		}
		seen[name] = true
		e, err := z.CreateHeader(&zip.FileHeader{Name: name + ".npy", Method: zip.Store})
		if err != nil {
			return err
		}
		if err := WriteNpy(e, tensors[i]); err != nil {
			return fmt.Errorf("npz: array %q: %w", name, err)
		}
	}
	return z.Close()
}

// WriteNpzFile writes a .npz file.
func WriteNpzFile(path string, names []string, tensors []*Tensor) error {
	return wholefile.Write(path, func(w io.Writer) error { return WriteNpz(w, names, tensors) })
}
