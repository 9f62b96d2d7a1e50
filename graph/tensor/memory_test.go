package tensor

import "testing"

// TestTooLarge: more than the machine has is a panic that can be caught.
func TestTooLarge(t *testing.T) {
	defer func() {
		if _, ok := recover().(*TooLarge); !ok {
			t.Error("no TooLarge")
		}
	}()
	New(Float32, 1<<40)
}
