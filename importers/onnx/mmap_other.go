//go:build !unix

package onnx

import (
	"io"
	"os"
)

func mapFile(path string) ([]byte, error) { return readFile(path) }

func mapOpen(f *os.File, size int64) ([]byte, error) {
	b := make([]byte, size)
	_, err := io.ReadFull(f, b)
	return b, err
}

func unmap([]byte) {}
