// Package text reads ssdc's text form (.ssd), as `ssdc opt` prints it. Package
// graph parses; here the result is checked against an operator table and typed.
//
// All constants must be written out: a constant that was printed by its digest
// alone (@name) has no value to read.
package text

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/ops"
)

// Load reads a file. Digest is the SHA-256 of its bytes.
func Load(path string, t *ops.Table) (g *graph.Graph, digest string, err error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, "", err
	}
	if g, err = Read(bytes.NewReader(data), t); err != nil {
		return nil, "", fmt.Errorf("%s: %w", path, err)
	}
	sum := sha256.Sum256(data)
	return g, hex.EncodeToString(sum[:]), nil
}

// Read parses a graph, checks it and infers its types anew.
func Read(r io.Reader, t *ops.Table) (*graph.Graph, error) {
	g, err := graph.Parse(r, nil)
	if err != nil {
		return nil, err
	}
	if err := ops.Verify(t, g); err != nil {
		return nil, err
	}
	return g, ops.InferGraph(t, g)
}
