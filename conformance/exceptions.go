package conformance

import (
	"bufio"
	"fmt"
	"os"
	"strings"
)

// Exceptions lists cases that are known not to pass, each with its reason.
type Exceptions map[string]string

// ReadExceptions reads a list: a line is the name of a case, space, and why it
// cannot pass. Empty lines, and those that start with #, say nothing.
func ReadExceptions(path string) (Exceptions, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	e := Exceptions{}
	s := bufio.NewScanner(f)
	for n := 1; s.Scan(); n++ {
		line := strings.TrimSpace(s.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		name, why, _ := strings.Cut(line, " ")
		if why = strings.TrimSpace(why); why == "" {
			return nil, fmt.Errorf("%s:%d: %s is listed without a reason", path, n, name)
		}
		if _, dup := e[name]; dup {
			return nil, fmt.Errorf("%s:%d: %s is listed twice", path, n, name)
		}
		e[name] = why
	}
	return e, s.Err()
}

// Judge compares results with the list: unlisted are the cases that do not pass
// and are not listed, stale the listed ones that pass now. Both must be empty,
// so that the list can only shrink.
func (e Exceptions) Judge(results []Result) (unlisted, stale []Result) {
	for _, r := range results {
		_, listed := e[r.Name]
		switch {
		case r.Status != Pass && !listed:
			unlisted = append(unlisted, r)
		case r.Status == Pass && listed:
			stale = append(stale, r)
		}
	}
	return unlisted, stale
}
