//go:build unix

package artifact

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

// mapFile maps part of a file read-only. The file is for reading pieces of it without the
// map, and is closed with it.
func mapFile(path string, offset, size int64) (data []byte, file *os.File, unmap func() error, err error) {
	if offset < 0 || offset%int64(os.Getpagesize()) != 0 {
		return nil, nil, nil, fmt.Errorf("an artifact cannot start at %d, which is not a page", offset)
	}
	if size < HeaderSize || int64(int(size)) != size {
		return nil, nil, nil, fmt.Errorf("%d bytes are too few, or too many, for an artifact", size)
	}
	if file, err = os.Open(path); err != nil {
		return nil, nil, nil, err
	}
	defer func() {
		if err != nil {
			file.Close()
		}
	}()
	st, err := file.Stat()
	if err != nil {
		return nil, nil, nil, err
	}
	if !st.Mode().IsRegular() || offset > st.Size() || size > st.Size()-offset {
		return nil, nil, nil, fmt.Errorf("%d bytes at %d are outside the file of %d bytes", size, offset, st.Size())
	}
	data, err = syscall.Mmap(int(file.Fd()), offset, int(size), syscall.PROT_READ, syscall.MAP_SHARED)
	if err != nil {
		return nil, nil, nil, fmt.Errorf("mapping the file: %w", err)
	}
	return data, file, func() error { return errors.Join(syscall.Munmap(data), file.Close()) }, nil
}
