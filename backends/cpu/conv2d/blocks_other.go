//go:build !amd64 || purego

package conv2d

type blockCall struct{}

func (t *blockTile) prepare(int) {}

func tilePixels() int { return 4 }

func (t *blockTile) product(n, blocks int) { t.productPortable(n, blocks) }

func (t *blockTile) depthwise(n int) { t.depthwisePortable(n) }

func (t *blockTile) most(n int) { t.mostPortable(n) }
