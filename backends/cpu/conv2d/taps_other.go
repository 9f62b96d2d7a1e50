//go:build !amd64 || purego

package conv2d

func sumTaps(dst, src []float32, taps []int32, _ int, w []float32, start float32) {
	sumTapsPortable(dst, src, taps, w, start)
}

func everySecond(dst, src []float32) { everySecondPortable(dst, src) }
