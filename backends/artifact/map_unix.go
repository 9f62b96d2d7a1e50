//go:build unix

package artifact

import (
	"fmt"
	"os"
	"syscall"
)

// mapFile maps part of a file read-only.
func mapFile(path string, offset, size int64) ([]byte, func() error, error) {
	if offset < 0 || offset%int64(os.Getpagesize()) != 0 {
		return nil, nil, fmt.Errorf("an artifact cannot start at %d, which is not a page", offset)
	}
	if size < HeaderSize || int64(int(size)) != size {
		return nil, nil, fmt.Errorf("%d bytes are too few, or too many, for an artifact", size)
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, nil, err
	}
	defer file.Close() // the map stays
	st, err := file.Stat()
	if err != nil {
		return nil, nil, err
	}
	if !st.Mode().IsRegular() || offset > st.Size() || size > st.Size()-offset {
		return nil, nil, fmt.Errorf("%d bytes at %d are outside the file of %d bytes", size, offset, st.Size())
	}
	data, err := syscall.Mmap(int(file.Fd()), offset, int(size), syscall.PROT_READ, syscall.MAP_SHARED)
	if err != nil {
		return nil, nil, fmt.Errorf("mapping the file: %w", err)
	}
	return data, func() error { return syscall.Munmap(data) }, nil
}
