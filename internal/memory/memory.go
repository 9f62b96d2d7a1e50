// Package memory knows how much memory the machine or the container has, and gives large
// pieces of it on large pages. Go ends the process when it cannot get what it asks for; who is
// about to ask for a size that a user's lengths decide checks it here first, and can
// say which lengths.
package memory

import "fmt"

// Check returns an error when what takes more bytes than the process can have in all.
func Check(what string, bytes int64) error {
	if most, of := Limit(); bytes < 0 || bytes > most {
		return fmt.Errorf("%s needs %s of memory, %s has %s", what, size(bytes), of, size(most))
	}
	return nil
}

// Part is an n-th of what the process can have in all; where the size of the machine
// is not known, that counts as 16 GiB at most.
func Part(n int64) int64 {
	most, _ := Limit()
	if total() <= 0 {
		most = min(most, 16<<30)
	}
	return most / n
}

// Product multiplies lengths and an element size; -1 when it overflows.
func Product(elem int, lengths ...int) int64 {
	n := int64(elem)
	for _, l := range lengths {
		if l < 0 || l > 0 && n > (1<<62)/int64(l) {
			return -1
		}
		n *= int64(l)
	}
	return n
}

func size(n int64) string {
	if n < 0 {
		return "more than 4 EiB"
	}
	return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
}
