//go:build !amd64 || purego

package peak

func current() loops { return portable() }
