package onnx

// The cases of operators with bodies, as graphs in text.

const ifModel = `graph if (bool[] c, float[3] x) => (float[3] y) {
  float[3] y = If-VERSION <then_branch: graph = graph then () => (float[3] a) {
      float[3] a = Neg-13 (x)
    }, else_branch: graph = graph else () => (float[3] b) {
      float[3] b = Mul-13 (x, x)
    }> (c)
}`

// loopModel doubles x as often as it is told, and keeps each power.
const loopModel = `graph loop (int64[] trips, float[3] x) => (float[3] y, float[T,3] all)
<
  bool[] true = {1}
> {
  float[3] y, float[T,3] all = Loop-VERSION <body: graph = graph body (int64[] i, bool[] k, float[3] h) => (bool[] k2, float[3] h2, float[3] out) {
      bool[] k2 = Identity-13 (k)
      float[3] h2 = Add-13 (h, h)
      float[3] out = Identity-13 (h2)
    }> (trips, true, x)
}`

// scanModel adds up x, from s on.
const scanModel = `graph scan (float[] s, float[T] x) => (float[] last, float[T] all) {
  float[] last, float[T] all = Scan-VERSION <body: graph = graph body (float[] h, float[] u) => (float[] h2, float[] out) {
      float[] h2 = Add-13 (h, u)
      float[] out = Identity-13 (h2)
    }, num_scan_inputs: int = 1> (s, x)
}`

const scan8Model = `graph scan (float[B] s, float[B,T] x) => (float[B] last, float[B,T] all) {
  float[B] last, float[B,T] all = Scan-VERSION <body: graph = graph body (float[] h, float[] u) => (float[] h2, float[] out) {
      float[] h2 = Add-13 (h, u)
      float[] out = Identity-13 (h2)
    }, num_scan_inputs: int = 1> (_, s, x)
}`

// mapModel changes the sign of two copies of x and joins them.
const mapModel = `graph map (float[3] x) => (float[6] y) {
  seq(float[3]) s = SequenceConstruct-11 (x, x)
  seq(float[3]) m = SequenceMap-VERSION <body: graph = graph body (float[3] u) => (float[3] v) {
      float[3] v = Neg-13 (u)
    }> (s)
  float[6] y = ConcatFromSequence-11 <axis: int = 0> (m)
}`
