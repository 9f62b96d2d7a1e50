// Package artifact reads .ssda files: compiled models. The writer is in
// exporters/artifact.
//
// A file is little-endian:
//
//	header          128 bytes: magic, version, sizes, two SHA-256 sums
//	section table   96 bytes per section: name, target, place, SHA-256
//	WEIGHTS         page-aligned; tensors 64-byte aligned, large ones to pages
//	META            JSON: producer, source, signature, needed plugins
//	IR      target  the legalised graph as text
//	PLAN    target  JSON: kernel per node, states, options
//	TABLE           JSON: name, layout, place and SHA-256 of every weight
//	REMARKS         text: what the passes said
//
// The sections may stand in any order. The sum of WEIGHTS is that of the sums of
// its tensors, by place. Opening checks every offset and size against the file
// before anything is read through the map, and the sums of all sections but
// WEIGHTS, which are mapped and checked only by Verify. The same input and version
// give the same bytes.
package artifact

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math"

	"github.com/ssdc-go/ssdc/backends"
)

// The version of the format that this package reads and the exporter writes. A
// new minor version adds sections or fields that an old reader may ignore.
const (
	Major = 1
	Minor = 0
)

// Magic starts every file. Its line ends show a transfer in text mode.
const Magic = "SSDA\r\n\x1a\n"

// Sizes and alignments.
const (
	HeaderSize = 128
	EntrySize  = 96
	PageSize   = 4096
	// WeightAlign is the alignment of tensors; those of LargeWeight bytes or
	// more start on a page.
	WeightAlign = 64
	LargeWeight = 64 << 10
	nameSize    = 16
	maxSections = 1 << 12
)

// Names of sections.
const (
	SecMeta    = "META"
	SecIR      = "IR"
	SecPlan    = "PLAN"
	SecTable   = "TABLE"
	SecRemarks = "REMARKS"
	SecWeights = "WEIGHTS"
)

// Section is an entry of the section table.
type Section struct {
	Name   string
	Target string // "" when it is for all targets
	Offset uint64
	Size   uint64
	Sum    [sha256.Size]byte
}

// Header is the fixed part.
type Header struct {
	Major, Minor uint16
	FileSize     uint64
	Sections     uint32
	TableSum     [sha256.Size]byte
}

// Layout of the header: magic 0, major 8, minor 10, header size 12, file size
// 16, sections 24, entry size 28, zeros 32, table sum 64, header sum 96.

// Encode gives the header's bytes.
func (h *Header) Encode() []byte {
	b := make([]byte, 96, HeaderSize)
	copy(b, Magic)
	le := binary.LittleEndian
	le.PutUint16(b[8:], h.Major)
	le.PutUint16(b[10:], h.Minor)
	le.PutUint32(b[12:], HeaderSize)
	le.PutUint64(b[16:], h.FileSize)
	le.PutUint32(b[24:], h.Sections)
	le.PutUint32(b[28:], EntrySize)
	copy(b[64:], h.TableSum[:])
	sum := sha256.Sum256(b)
	return append(b, sum[:]...)
}

func decodeHeader(b []byte) (*Header, error) {
	if len(b) < HeaderSize {
		return nil, fmt.Errorf("%d bytes are too few for an artifact", len(b))
	}
	if string(b[:len(Magic)]) != Magic {
		return nil, fmt.Errorf("not an ssdc artifact")
	}
	le := binary.LittleEndian
	h := &Header{Major: le.Uint16(b[8:]), Minor: le.Uint16(b[10:]), FileSize: le.Uint64(b[16:]), Sections: le.Uint32(b[24:])}
	// The version comes first: another major version may have another header.
	if h.Major != Major {
		return nil, fmt.Errorf("the artifact has format %d.%d, this program reads %d.x: install a newer ssdc, or compile the model again with \"ssdc compile\"", h.Major, h.Minor, Major)
	}
	if sum := sha256.Sum256(b[:96]); string(sum[:]) != string(b[96:HeaderSize]) {
		return nil, fmt.Errorf("the header is damaged (checksum)")
	}
	if le.Uint32(b[12:]) != HeaderSize || le.Uint32(b[28:]) != EntrySize || h.Sections > maxSections {
		return nil, fmt.Errorf("the header is damaged: %d-byte header, %d sections of %d bytes", le.Uint32(b[12:]), h.Sections, le.Uint32(b[28:]))
	}
	copy(h.TableSum[:], b[64:])
	return h, nil
}

// Encode gives the entry's bytes. Names longer than 16 bytes are refused by the writer.
func (s *Section) Encode() []byte {
	b := make([]byte, EntrySize)
	copy(b[:nameSize], s.Name)
	copy(b[16:32], s.Target)
	binary.LittleEndian.PutUint64(b[32:], s.Offset)
	binary.LittleEndian.PutUint64(b[40:], s.Size)
	copy(b[48:], s.Sum[:])
	return b
}

// FitsName reports whether a section or target name can be stored.
func FitsName(s string) bool { return len(s) <= nameSize }

func decodeSection(b []byte) Section {
	text := func(b []byte) string {
		for len(b) > 0 && b[len(b)-1] == 0 {
			b = b[:len(b)-1]
		}
		return string(b)
	}
	s := Section{Name: text(b[:16]), Target: text(b[16:32]), Offset: binary.LittleEndian.Uint64(b[32:]), Size: binary.LittleEndian.Uint64(b[40:])}
	copy(s.Sum[:], b[48:])
	return s
}

// Meta is the META section.
type Meta struct {
	Producer string `json:"producer"`         // program and version
	Source   string `json:"source,omitempty"` // name of the model file
	Digest   string `json:"digest,omitempty"` // SHA-256 of it
	Model    string `json:"model,omitempty"`  // name of the graph
	Inputs   []Port `json:"inputs"`
	Outputs  []Port `json:"outputs"`
	// Symbols names the symbolic lengths of the signature.
	Symbols []string `json:"symbols,omitempty"`
	Targets []string `json:"targets"`
	// Plugins that a runner needs besides ssdc's own operators and kernels.
	Plugins []string `json:"plugins,omitempty"`
	// Notes are free: tokenizer, training data, licence.
	Notes map[string]string `json:"notes,omitempty"`
}

// Port is an input or output of the model.
type Port struct {
	Name string `json:"name"`
	Type string `json:"type"` // float[B,64]
}

// Plan is a PLAN section.
type Plan struct {
	Target  backends.Target      `json:"target"`
	States  []backends.StatePair `json:"states,omitempty"`
	Kernels []string             `json:"kernels"`
	Options map[string]string    `json:"options,omitempty"`
}

// WeightEntry is one row of the TABLE section.
type WeightEntry struct {
	Target string `json:"target"`
	Name   string `json:"name"`
	Layout string `json:"layout,omitempty"`
	DType  string `json:"dtype"`
	Shape  []int  `json:"shape"`
	Offset uint64 `json:"offset"` // in WEIGHTS
	Size   uint64 `json:"size"`
	Sum    string `json:"sha256"`
}

// LayoutStrings marks a tensor of strings, stored as a JSON list.
const LayoutStrings = "strings.json"

// byteSize is the number of bytes of a stored tensor, without overflow.
func byteSize(bits int, shape []int) (uint64, bool) {
	n := uint64(1)
	for _, d := range shape {
		if d < 0 || d > 0 && n > math.MaxInt64/16/uint64(d) {
			return 0, false
		}
		n *= uint64(d)
	}
	return (n*uint64(bits) + 7) / 8, true
}
