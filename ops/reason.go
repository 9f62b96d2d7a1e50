package ops

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
)

// Reason says in words what a recovered panic means for a node: its operator
// indexed memory by shapes or values that contradict each other.
func Reason(p any) string {
	var e runtime.Error
	if err, ok := p.(error); !ok || !errors.As(err, &e) { // a worker's panic wraps what it panicked with
		return fmt.Sprint(p)
	}
	switch s := strings.TrimPrefix(e.Error(), "runtime error: "); {
	case strings.Contains(s, "divide by zero"):
		return "an integer is divided by zero"
	case strings.Contains(s, "nil pointer"):
		return "an input that it needs is omitted"
	case strings.Contains(s, "makeslice"):
		return "its result would be too large"
	default:
		return fmt.Sprintf("its inputs do not fit together (%s)", s)
	}
}
