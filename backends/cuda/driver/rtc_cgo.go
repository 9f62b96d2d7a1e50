//go:build cgo && linux

package driver

// #include <stdlib.h>
// #include "shim.h"
import "C"

import (
	"fmt"
	"sync"
	"unsafe"
)

var openRTC = sync.OnceValue(func() error {
	return openFirst(candidates("SSDC_LIBNVRTC", "libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so"), func(p, err *C.char, n C.int) C.int { return C.ssdc_rtc_open(p, err, n) })
})

// RTCVersion opens NVRTC and gives its version; the error says why it is not there.
func RTCVersion() (major, minor int, err error) {
	if err := openRTC(); err != nil {
		return 0, 0, err
	}
	var a, b C.int
	C.ssdc_rtc_version(&a, &b)
	return int(a), int(b), nil
}

// Compile compiles CUDA C++ to a cubin, or to PTX. headers are the files it may include, by name.
func Compile(source, name string, headers map[string]string, options []string, ptx bool) ([]byte, error) {
	if err := openRTC(); err != nil {
		return nil, err
	}
	var held []unsafe.Pointer
	defer func() {
		for _, p := range held {
			C.free(p)
		}
	}()
	text := func(s string) *C.char {
		c := C.CString(s)
		held = append(held, unsafe.Pointer(c))
		return c
	}
	list := func(n int) []*C.char { // in C memory, as C keeps pointers of it
		p := C.calloc(C.size_t(n+1), C.size_t(unsafe.Sizeof(uintptr(0))))
		held = append(held, p)
		return unsafe.Slice((**C.char)(p), n+1)
	}
	bodies, names, opts := list(len(headers)), list(len(headers)), list(len(options))
	i := 0
	for k, v := range headers {
		names[i], bodies[i] = text(k), text(v)
		i++
	}
	for i, o := range options {
		opts[i] = text(o)
	}
	var out, log *C.char
	var size C.size_t
	asPTX := C.int(0)
	if ptx {
		asPTX = 1
	}
	code := C.ssdc_rtc_compile(text(source), text(name), C.int(len(headers)), &bodies[0], &names[0], C.int(len(options)), &opts[0], asPTX, &out, &size, &log)
	defer C.free(unsafe.Pointer(out))
	defer C.free(unsafe.Pointer(log))
	if code != 0 {
		return nil, fmt.Errorf("NVRTC: %s: status %d\n%s", name, code, C.GoString(log))
	}
	return C.GoBytes(unsafe.Pointer(out), C.int(size)), nil
}
