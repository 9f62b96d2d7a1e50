// Package gemm multiplies float32 matrices for the CPU backend.
//
//	C[M,N] = act(alpha * A[M,K] @ B[K,N] + bias[N]) + residual[M,N]
//
// Run takes B packed, which is how the artifact stores weights; RunStrided
// takes batches of two activations with any strides and packs on the fly.
//
// # Packed layout
//
// The layout is a file format and is the same for every instruction set: the
// columns of B are cut into panels of PanelWidth = 32; panel p holds columns
// 32p..32p+31 as K rows of 32 contiguous floats, and the panels follow one
// another:
//
//	packed[p*K*32 + k*32 + j] = B[k][32p+j]    (0 where 32p+j >= N)
//
// A range of K within a panel is contiguous, so blocking over K costs nothing,
// and a narrower kernel walks the same panel in slices of its own width.
//
// # Order of summation
//
// One element of C is a chain of multiply-adds over k in ascending order,
// restarted every stepK(K) values and added to C there. That order depends on K
// alone, so a row of C has the same bits whatever M is, wherever the row
// stands and however many workers share the step; the two assembly kernels
// agree bit for bit too. (The portable kernel rounds the product as well.)
package gemm
