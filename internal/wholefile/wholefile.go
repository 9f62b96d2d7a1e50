// Package wholefile writes files that are complete or absent: to a temporary
// file in the same folder, synced, then renamed over the target. Devices and
// pipes, which cannot be replaced, are written to directly.
package wholefile

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// Write calls f with a buffered writer and puts what it wrote at path. After an
// error nothing is left behind, and a file that was there is untouched.
func Write(path string, f func(io.Writer) error) error {
	return WriteFile(path, func(w *os.File) error {
		b := bufio.NewWriterSize(w, 1<<16)
		if err := f(b); err != nil {
			return err
		}
		return b.Flush()
	})
}

// WriteFile is Write for an f that seeks.
func WriteFile(path string, f func(*os.File) error) (err error) {
	defer func() { err = onPath(path, err) }()
	real, special, err := target(path)
	if err != nil {
		return err
	}
	if special {
		w, err := os.OpenFile(real, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		if err := f(w); err != nil {
			_ = w.Close() // the first error says more
			return err
		}
		return w.Close()
	}
	w, err := os.CreateTemp(filepath.Dir(real), ".ssdc-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = w.Close() // the first error says more
			_ = os.Remove(w.Name())
		}
	}()
	if err = f(w); err != nil {
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
	if err = os.Rename(w.Name(), real); err != nil {
		return err
	}
	if dir, err := os.Open(filepath.Dir(real)); err == nil {
		_ = dir.Sync() // not every file system can
		_ = dir.Close()
	}
	return nil
}

// Check says why a file could not be put at path, as far as that is known
// without writing; long work that ends in a file starts with it.
func Check(path string) error {
	real, special, err := target(path)
	if err == nil && !special {
		var dir fs.FileInfo
		if dir, err = os.Stat(filepath.Dir(real)); err == nil && !dir.IsDir() {
			err = syscall.ENOTDIR
		}
	}
	return onPath(path, err)
}

// target follows links and tells a device or pipe from a regular or new file.
func target(path string) (real string, special bool, err error) {
	if path == "" {
		return "", false, errors.New("the file name is empty")
	}
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return path, false, nil
	case err != nil:
		return "", false, err
	case info.IsDir():
		return "", false, errors.New("it is a folder")
	}
	if real, err = filepath.EvalSymlinks(path); err != nil {
		return "", false, err
	}
	return real, !info.Mode().IsRegular(), nil
}

// onPath names the target rather than the temporary file.
func onPath(path string, err error) error {
	if err == nil {
		return nil
	}
	var p *fs.PathError
	var l *os.LinkError
	switch {
	case errors.As(err, &p):
		err = p.Err
	case errors.As(err, &l):
		err = l.Err
	}
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cannot write %s: there is no folder %s", path, filepath.Dir(path))
	}
	return fmt.Errorf("cannot write %s: %w", path, err)
}
