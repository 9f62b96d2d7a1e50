//go:build !linux || !amd64 || purego

package isa

func requestTiles() bool { return false }
