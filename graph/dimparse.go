package graph

import (
	"fmt"
	"strconv"
)

// ParseDim reads what String writes, and more: + - * // % with parentheses,
// floor(a/b), ceil(a/b), max, min and mod(a,b), as exporters print them.
func ParseDim(s string) (Dim, error) {
	p := dimParser{s: s}
	d := p.sum()
	p.space()
	if p.err == nil && p.i != len(s) {
		p.fail("unexpected %q", s[p.i:])
	}
	if p.err != nil {
		return Dim{}, fmt.Errorf("dimension %q: %w", s, p.err)
	}
	return d, nil
}

type dimParser struct {
	s     string
	i     int
	depth int
	err   error
}

func (p *dimParser) fail(format string, a ...any) {
	if p.err == nil {
		p.err = fmt.Errorf("column %d: "+format, append([]any{p.i + 1}, a...)...)
	}
}

func (p *dimParser) space() {
	for p.i < len(p.s) && p.s[p.i] == ' ' {
		p.i++
	}
}

func (p *dimParser) eat(tok string) bool {
	p.space()
	if p.err == nil && len(p.s)-p.i >= len(tok) && p.s[p.i:p.i+len(tok)] == tok {
		p.i += len(tok)
		return true
	}
	return false
}

func (p *dimParser) sum() Dim {
	var d Dim
	if p.eat("-") {
		d = p.product().Neg()
	} else {
		d = p.product()
	}
	for p.err == nil {
		switch {
		case p.eat("+"):
			d = d.Add(p.product())
		case p.eat("-"):
			d = d.Sub(p.product())
		default:
			return d
		}
	}
	return d
}

func (p *dimParser) product() Dim {
	d := p.factor()
	for p.err == nil {
		switch {
		case p.eat("**"):
			p.fail("powers are not supported")
		case p.eat("*"):
			d = d.Mul(p.factor())
		case p.eat("//"):
			d = d.FloorDiv(p.nonZero())
		case p.eat("%"):
			d = d.Mod(p.nonZero())
		default:
			return d
		}
	}
	return d
}

func (p *dimParser) nonZero() Dim {
	d := p.factor()
	if d.Is(0) {
		p.fail("division by zero")
		return D(1)
	}
	return d
}

func (p *dimParser) factor() Dim {
	if p.depth++; p.depth > 200 {
		p.fail("nested too deeply")
		return Dim{}
	}
	defer func() { p.depth-- }()
	p.space()
	if p.eat("(") {
		d := p.sum()
		p.want(")")
		return d
	}
	start := p.i
	for p.i < len(p.s) && symbolByte(p.s[p.i]) {
		p.i++
	}
	word := p.s[start:p.i]
	switch {
	case word == "":
		p.fail("expected a number, a name or '('")
		return Dim{}
	case word[0] >= '0' && word[0] <= '9':
		n, err := strconv.ParseInt(word, 10, 64)
		if err != nil {
			p.fail("bad number %q", word)
		}
		return D(n)
	case word[0] == '.':
		p.fail("bad name %q", word)
		return Dim{}
	case p.i < len(p.s) && p.s[p.i] == '(':
		return p.call(word)
	}
	return Sym(word)
}

func (p *dimParser) call(name string) Dim {
	p.want("(")
	a := p.sum()
	var d Dim
	switch name {
	case "floor", "ceil":
		if !p.eat("/") {
			p.want(")")
			return a
		}
		b := p.nonZero()
		if d = a.FloorDiv(b); name == "ceil" {
			d = a.CeilDiv(b)
		}
	case "max", "min", "Max", "Min", "mod", "Mod":
		p.want(",")
		b := p.sum()
		switch name[len(name)-1] {
		case 'x':
			d = a.Max(b)
		case 'n':
			d = a.Min(b)
		default:
			if b.Is(0) {
				p.fail("division by zero")
				return Dim{}
			}
			d = a.Mod(b)
		}
	default:
		p.fail("unknown function %q", name)
	}
	p.want(")")
	return d
}

func (p *dimParser) want(tok string) {
	if !p.eat(tok) {
		p.fail("expected %q", tok)
	}
}
