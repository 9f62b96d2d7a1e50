package backends

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
)

// The file of a saved session: "SSDSTATE", the length of a JSON list of entries
// (u32), the list, the tensors' bytes one after another, and the SHA-256 of all
// that.
const stateMagic = "SSDSTATE"

// maxStateHeader bounds the JSON list, and maxState one tensor, so that a
// damaged file cannot ask for absurd amounts of memory.
const (
	maxStateHeader = 16 << 20
	maxState       = 1 << 40
)

// StateEntry is one recurrent state of a session. Tensor nil stands for zeros
// of a shape that the next run decides.
type StateEntry struct {
	Name   string
	Tensor *tensor.Tensor
}

type stateHeader struct {
	Name  string `json:"name"`
	DType string `json:"dtype,omitempty"`
	Shape []int  `json:"shape,omitempty"`
	Zero  bool   `json:"zero,omitempty"`
}

// SaveStates writes the states of a session.
func SaveStates(w io.Writer, states []StateEntry) error {
	var list []stateHeader
	for _, s := range states {
		h := stateHeader{Name: s.Name, Zero: s.Tensor == nil}
		if s.Tensor != nil {
			h.DType, h.Shape = s.Tensor.DType.String(), s.Tensor.Shape
		}
		list = append(list, h)
	}
	head, err := json.Marshal(list)
	if err != nil {
		return err
	}
	sum := sha256.New()
	out := io.MultiWriter(w, sum)
	lead := binary.LittleEndian.AppendUint32([]byte(stateMagic), uint32(len(head)))
	for _, b := range [][]byte{lead, head} {
		if _, err := out.Write(b); err != nil {
			return fmt.Errorf("saving session state: %w", err)
		}
	}
	for _, s := range states {
		if s.Tensor != nil {
			if _, err := out.Write(s.Tensor.Data); err != nil {
				return fmt.Errorf("saving session state: %w", err)
			}
		}
	}
	if _, err := w.Write(sum.Sum(nil)); err != nil {
		return fmt.Errorf("saving session state: %w", err)
	}
	return nil
}

// RestoreStates reads what SaveStates wrote. names lists the states that the
// session has, and types their types; the result follows that order.
func RestoreStates(r io.Reader, names []string, types []graph.Type) ([]StateEntry, error) {
	fail := func(format string, a ...any) ([]StateEntry, error) {
		return nil, fmt.Errorf("restoring session state: "+format, a...)
	}
	sum := sha256.New()
	in := io.TeeReader(r, sum)
	lead := make([]byte, len(stateMagic)+4)
	if _, err := io.ReadFull(in, lead); err != nil {
		return fail("the file is too short: %w", err)
	}
	if string(lead[:len(stateMagic)]) != stateMagic {
		return fail("this is not a saved session")
	}
	n := binary.LittleEndian.Uint32(lead[len(stateMagic):])
	if n > maxStateHeader {
		return fail("header of %d bytes", n)
	}
	head := make([]byte, n)
	if _, err := io.ReadFull(in, head); err != nil {
		return fail("the file is cut short: %w", err)
	}
	var list []stateHeader
	if err := json.Unmarshal(head, &list); err != nil {
		return fail("damaged header: %w", err)
	}
	byName := map[string]StateEntry{}
	for _, h := range list {
		e := StateEntry{Name: h.Name}
		if !h.Zero {
			d, ok := tensor.ParseDType(h.DType)
			size := int64(1)
			for _, s := range h.Shape {
				if s < 0 || s > 0 && size > maxState/int64(s) {
					ok = false
					break
				}
				size *= int64(s)
			}
			if !ok || d.Size() == 0 {
				return fail("damaged entry for %q: %s%v", h.Name, h.DType, h.Shape)
			}
			// Grow with what is really there: the sizes are not trusted yet.
			var buf bytes.Buffer
			want := int64(d.Bytes(int(size)))
			if got, err := io.CopyN(&buf, in, want); err != nil {
				return fail("%q: the file is cut short: %d of %d bytes", h.Name, got, want)
			}
			e.Tensor = tensor.New(d, h.Shape...)
			copy(e.Tensor.Data, buf.Bytes())
		}
		byName[h.Name] = e
	}
	want := sum.Sum(nil)
	got := make([]byte, len(want))
	if _, err := io.ReadFull(r, got); err != nil || !bytes.Equal(got, want) {
		return fail("the checksum does not match: the file is damaged")
	}
	var out []StateEntry
	for i, name := range names {
		e, ok := byName[name]
		if !ok {
			return fail("the file has no state %q: it is of another model", name)
		}
		if e.Tensor != nil && !admits(types[i], e.Tensor) {
			return fail("state %q is %s in the file and %s in the model", name, e.Tensor.TypeString(), types[i])
		}
		out = append(out, e)
	}
	if len(byName) != len(names) {
		return fail("the file has %d states, the model %d", len(byName), len(names))
	}
	return out, nil
}

// admits reports whether t is of type want, whatever the symbols in it stand for.
func admits(want graph.Type, t *tensor.Tensor) bool {
	if want.DType != t.DType || want.Ranked() && want.Rank() != t.Rank() {
		return false
	}
	for i, d := range want.Shape {
		if n, ok := d.Const(); ok && n != int64(t.Shape[i]) {
			return false
		}
	}
	return true
}
