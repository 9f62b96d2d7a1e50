// Package onnx defines ONNX's operators (domain ai.onnx, opsets 7 to 28) as
// rows of an operator table: parameters, type inference with symbolic
// dimensions, and a reference evaluation that follows the operator's
// specification literally. Backends are tested against these evaluations, so
// they favour being obviously right over being fast.
//
// One file holds one family of operators. A family is a function that returns
// its rows; Register adds them all. An operator version has a row of its own
// when its signature or meaning changed; versions that only widened the list
// of types share a definition through the versions function.
package onnx

import (
	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/ops"
)

// families lists the functions that make the rows, one per file.
func families() []func() []*ops.Op {
	return []func() []*ops.Op{
		// Arithmetic.
		unaryRows, bitShiftRows, binaryRows, logicalRows, activationRows, clipRows, castRows,
		reduceRows, argRows, matmulRows, einsumRows, softmaxRows, normRows, convRows, poolRows,
		channelNormRows, attentionRows, linearAttentionRows, dropoutRows, quantRows, quantMulRows,
		rnnRows, lossRows, generateRows, sampleRows, regionRows, signalRows, detRows,
		// Data movement and control flow.
		shapeRows, reshapeRows, transposeRows, sliceRows, splitRows, concatRows, gatherRows,
		scatterRows, padRows, expandRows, whereRows, rangeRows, constantRows, cumulativeRows,
		triluRows, sequenceRows, controlRows, topkRows, nonzeroRows, onehotRows, uniqueRows,
		spacedepthRows, reverseRows, optionalRows, resizeRows,
		stringRows, tfidfRows, cropRows, imageDecoderRows,
		// Other times and domains.
		legacyRows, previewRows, optimizerRows,
	}
}

// Rows lists every ONNX operator of this package.
func Rows() []*ops.Op {
	var rows []*ops.Op
	for _, f := range families() {
		rows = append(rows, f()...)
	}
	addDecompositions(rows)
	takes := map[string]bool{"Identity": true} // beside what sequences and optionals are there for
	for _, list := range [][]*ops.Op{sequenceRows(), optionalRows()} {
		for _, r := range list {
			takes[r.ID.Name] = true
		}
	}
	for _, r := range rows {
		if takes[r.ID.Name] {
			r.Traits |= ops.Containers
		}
	}
	return rows
}

// Register adds every ONNX operator of this package to the table.
func Register(t *ops.Table) error { return t.Add("ops/onnx", Rows()...) }

// versions makes a row for each opset in which the operator changed, all with
// the definition of proto.
func versions(name string, since []int, proto ops.Op) []*ops.Op {
	rows := make([]*ops.Op, len(since))
	for i, s := range since {
		r := proto
		r.ID = graph.OpID{Name: name, Since: s}
		rows[i] = &r
	}
	return rows
}
