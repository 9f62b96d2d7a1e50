//go:build !amd64 || purego

package selscan

func (c *call) run(k *scanArgs)   { scanPortable(k) }
func (c *call) step(k *stepArgs)  { stepPortable(k) }
func (c *linCall) run(k *linArgs) { linPortable(k) }
