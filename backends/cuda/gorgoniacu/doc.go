// Package gorgoniacu runs ssdc's scan kernel for a program that works with gorgonia.org/cu: on the context that is current there and
// on memory that it has allocated.
//
// It is no way to run models; package cuda is, and opens the driver by itself. gorgonia.org/cu needs CUDA's headers (12.x) and
// libcuda to build, ends the process when there is no driver, and has neither graph launches nor kernels with more than 48 KB of
// shared memory. So this is a module of its own, and everything but this comment needs the build tag cu:
//
//	CGO_CFLAGS=-I/usr/local/cuda/include go run -tags cu ./example
package gorgoniacu
