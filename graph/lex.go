package graph

import (
	"fmt"
	"strconv"
	"strings"
)

// lexer splits the text form into tokens: names, quoted strings, "=>" and
// single characters.
type lexer struct {
	s        string
	i, line  int
	tok      string // as written; "" at the end
	text     string // unquoted
	isName   bool   // a bare or quoted name
	isQuoted bool
	spaced   bool // white space came before tok
	err      error
}

func (l *lexer) fail(format string, a ...any) {
	if l.err == nil {
		l.err = fmt.Errorf("line %d: "+format, append([]any{l.line}, a...)...)
	}
}

func (l *lexer) next() {
	l.tok, l.text, l.isName, l.isQuoted, l.spaced = "", "", false, false, false
	if l.err != nil {
		return
	}
	for l.i < len(l.s) {
		switch c := l.s[l.i]; {
		case c == '\n':
			l.line++
			fallthrough
		case c == ' ' || c == '\t' || c == '\r':
			l.spaced = true
			l.i++
			continue
		case c == '#':
			if n := strings.IndexByte(l.s[l.i:], '\n'); n >= 0 {
				l.i += n
			} else {
				l.i = len(l.s)
			}
			continue
		}
		break
	}
	if l.i >= len(l.s) {
		return
	}
	start := l.i
	switch c := l.s[l.i]; {
	case c == '"':
		l.quote()
		return
	case nameByte(c) && c != ':':
		for l.i < len(l.s) && nameByte(l.s[l.i]) && !(l.s[l.i] == ':' && l.i+1 < len(l.s) && l.s[l.i+1] == ' ') {
			l.i++
		}
		l.tok = l.s[start:l.i]
		l.text, l.isName = l.tok, true
		return
	case strings.HasPrefix(l.s[l.i:], "=>"):
		l.i += 2
	default:
		l.i++
	}
	l.tok = l.s[start:l.i]
}

func (l *lexer) quote() {
	start := l.i
	for l.i++; l.i < len(l.s) && l.s[l.i] != '"' && l.s[l.i] != '\n'; l.i++ {
		if l.s[l.i] == '\\' {
			l.i++
		}
	}
	if l.i >= len(l.s) || l.s[l.i] != '"' {
		l.fail("string is not closed")
		return
	}
	l.i++
	text, err := strconv.Unquote(l.s[start:l.i])
	if err != nil {
		l.fail("bad string %s", l.s[start:l.i])
		return
	}
	l.tok, l.text, l.isName, l.isQuoted = l.s[start:l.i], text, true, true
}

func (l *lexer) eat(tok string) bool {
	if l.err == nil && l.tok == tok && !l.isQuoted {
		l.next()
		return true
	}
	return false
}

func (l *lexer) want(tok string) {
	if l.err == nil && !l.eat(tok) {
		l.fail("expected %q, got %q", tok, l.tok)
	}
}

// dims reads the raw text of a bracketed list of dimensions; the current token is "[".
func (l *lexer) dims() []string {
	var out []string
	depth, start := 0, l.i
	for ; l.i < len(l.s) && l.s[l.i] != '\n'; l.i++ {
		switch c := l.s[l.i]; {
		case c == '(':
			depth++
		case c == ')':
			depth--
		case c == ',' && depth == 0, c == ']':
			if d := strings.TrimSpace(l.s[start:l.i]); d != "" || c == ',' || len(out) > 0 {
				out = append(out, d)
			}
			start = l.i + 1
			if c == ']' {
				l.i++
				l.next()
				return out
			}
		}
	}
	l.fail("'[' is not closed")
	return nil
}
