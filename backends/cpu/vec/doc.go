// Package vec holds the element-wise functions, reductions, conversions and
// 2-D copies of the CPU backend, on plain float32 slices.
//
// Every function works on n = len(dst) elements; the sources must be at least
// that long. dst may be the very same slice as a source; partial overlap is not
// supported. Nothing allocates, and element i of a result depends only on
// element i of the sources: never on the length, the position or the alignment
// of the slice, so a caller may cut a slice between workers as it likes.
//
// Each function has an AVX-512, an AVX2 and a portable implementation; package
// isa says which one runs. They may differ from each other in the last bit or
// two, within the error limits stated at each function.
package vec
