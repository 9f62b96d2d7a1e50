//go:build !amd64 || purego

package linattn

func (j *job) read(a *readArgs)   { readPortable(a) }
func (j *job) write(a *writeArgs) { writePortable(a) }

func fetch([]float32, int) {}
