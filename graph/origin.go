package graph

import "fmt"

// Origin is where a node comes from in the program that was exported, as far
// as the exporter wrote it down.
type Origin struct {
	Module string // "model.layers.0.mixer"
	File   string // of the innermost line outside of the framework
	Line   int
	Func   string
	Code   string // that line
}

// String is "modeling.py:512 in forward".
func (o Origin) String() string {
	if o.File == "" {
		return ""
	}
	s := fmt.Sprintf("%s:%d", o.File, o.Line)
	if o.Func != "" {
		s += " in " + o.Func
	}
	return s
}
