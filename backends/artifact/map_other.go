//go:build !unix

package artifact

import (
	"fmt"
	"io"
	"os"

	"github.com/ssdc-go/ssdc/graph/tensor"
)

// mapFile reads part of a file, where mapping is not available.
func mapFile(path string, offset, size int64) ([]byte, *os.File, func() error, error) {
	if offset < 0 || size < HeaderSize || int64(int(size)) != size {
		return nil, nil, nil, fmt.Errorf("%d bytes at %d are not an artifact", size, offset)
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, nil, nil, err
	}
	defer file.Close()
	st, err := file.Stat()
	if err != nil {
		return nil, nil, nil, err
	}
	if offset > st.Size() || size > st.Size()-offset {
		return nil, nil, nil, fmt.Errorf("%d bytes at %d are outside the file of %d bytes", size, offset, st.Size())
	}
	data := tensor.AlignedBytes(int(size))
	if _, err := io.ReadFull(io.NewSectionReader(file, offset, size), data); err != nil {
		return nil, nil, nil, err
	}
	return data, nil, func() error { return nil }, nil
}
