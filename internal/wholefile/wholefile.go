// Package wholefile writes files that are complete or absent: to a temporary
// file in the same folder, synced, then renamed over the target.
package wholefile

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// Write calls f with a buffered writer and puts what it wrote at path. After an
// error nothing is left behind, and a file that was there is untouched.
func Write(path string, f func(io.Writer) error) (err error) {
	w, err := os.CreateTemp(filepath.Dir(path), ".ssdc-*")
	if err != nil {
		return onPath(path, err)
	}
	defer func() {
		if err != nil {
			_ = w.Close() // the first error says more
			_ = os.Remove(w.Name())
			err = onPath(path, err)
		}
	}()
	b := bufio.NewWriterSize(w, 1<<16)
	if err = f(b); err != nil {
		return err
	}
	if err = b.Flush(); err != nil {
		return err
	}
	if err = w.Chmod(0o644); err != nil {
		return err
	}
	if err = w.Sync(); err != nil {
		return err
	}
	if err = w.Close(); err != nil {
		return err
	}
	return os.Rename(w.Name(), path)
}

// onPath names the target rather than the temporary file.
func onPath(path string, err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		err = p.Err
	}
	return fmt.Errorf("cannot write %s: %w", path, err)
}
