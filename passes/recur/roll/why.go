package roll

import (
	"errors"
	"fmt"
)

// ErrParallel says that no step depends on another.
var ErrParallel = errors.New("no step depends on the one before")

// mismatch says where steps differ.
type mismatch struct {
	step  int
	first bool // it is the first that was looked at
	why   string
}

func mismatchAt(step int, why string) error { return &mismatch{step: step, why: why} }

func (m *mismatch) Error() string { return fmt.Sprintf("step %d differs: %s", m.step, m.why) }

// refused is an error after a state was found: the steps are a recurrence.
type refused struct{ error }

func (r refused) Unwrap() error { return r.error }

func telling(err error) bool { _, ok := err.(refused); return ok }

// Telling reports whether an error of Roll is about a recurrence, and not
// about values that only stand side by side.
func Telling(err error) bool { return telling(err) }
