//go:build !amd64 || purego

package conv

func block(_, _, _, _ []float32, _ Shape, _ int) bool { return false }

func row(y []float32, x *[MaxK]*float32, w, bias []float32, s Shape) { rowTaps(y, x, w, bias, s) }

func stepBlocks(_, _, _, _, _, _ []float32, _, _, _ int, _ bool, _ int) bool { return false }
