//go:build (!amd64 && !arm64) || purego

package ssd

func (c *call) score(a *scoreArgs)   { scorePortable(a) }
func (c *call) weight(a *weightArgs) { weightPortable(a) }
func (c *call) pack(a *packArgs)     { packPortable(a) }
func (c *call) mix(a *mixArgs)       { mixPortable(a) }
func (c *call) absorb(a *absorbArgs) { absorbPortable(a) }
func (c *call) step(a *stepArgs)     { stepPortable(a) }

func (c *call) fetch(*Seq, int, int, int, int, int) {}
