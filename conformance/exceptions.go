package conformance

import (
	"bufio"
	"fmt"
	"os"
	"path"
	"strings"
)

// Exceptions lists cases that are known not to pass, each with its reason. A key
// is a case's name or a pattern of package path: "*node/test_x" is the case of
// that name in both node and onnx-node.
type Exceptions map[string]string

// Why is the reason for which a case is listed, or empty.
func (e Exceptions) Why(name string) string {
	if why := e[name]; why != "" {
		return why
	}
	for pattern, why := range e {
		if ok, _ := path.Match(pattern, name); ok { // ReadExceptions has refused bad patterns
			return why
		}
	}
	return ""
}

// ReadExceptions reads a list: a line is the name of a case or a pattern, space, and why it
// cannot pass. Empty lines, and those that start with #, say nothing.
func ReadExceptions(file string) (Exceptions, error) {
	f, err := os.Open(file)
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
			return nil, fmt.Errorf("%s:%d: %s is listed without a reason", file, n, name)
		}
		if _, dup := e[name]; dup {
			return nil, fmt.Errorf("%s:%d: %s is listed twice", file, n, name)
		}
		if _, err := path.Match(name, ""); err != nil {
			return nil, fmt.Errorf("%s:%d: %s: %w", file, n, name, err)
		}
		e[name] = why
	}
	return e, s.Err()
}

// Judge compares results with the list: unlisted are the cases that do not pass
// and are not listed, stale the listed ones that pass now (but for those whose
// reason begins with "random:", which may pass by chance). Both must be empty,
// so that the list can only shrink.
func (e Exceptions) Judge(results []Result) (unlisted, stale []Result) {
	for _, r := range results {
		why := e.Why(r.Name)
		listed := why != ""
		switch {
		case r.Status != Pass && !listed:
			unlisted = append(unlisted, r)
		case r.Status == Pass && listed && !strings.HasPrefix(why, "random:"):
			stale = append(stale, r)
		}
	}
	return unlisted, stale
}
