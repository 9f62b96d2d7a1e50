package onnx

import "github.com/ssdc-go/ssdc/ops/sig"

// Short names for what nearly every row says; package sig explains them.
type dtypes = sig.Types

var (
	floatTypes   = sig.Floats
	float8Types  = sig.Float8
	signedTypes  = sig.Signed
	packedInts   = sig.Packed
	intTypes     = sig.Ints
	numberTypes  = sig.Numbers
	boolType     = sig.Bool
	stringType   = sig.Strings
	complexTypes = sig.Complex
	byteTypes    = sig.BytesOnly
	indexTypes   = sig.Index
	castTypes    = sig.Castable
)

var (
	setOf       = sig.SetOf
	want        = sig.Want
	same        = sig.Same
	rankIs      = sig.RankIs
	rankAtLeast = sig.RankAtLeast
	params      = sig.Params
	attr        = sig.Attr
	attrOpt     = sig.AttrOpt
	axisOf      = sig.AxisOf
	withDType   = sig.WithDType
	unranked    = sig.Unranked
	noAttrs     = sig.NoAttrs
	inputName   = sig.InputName
)
