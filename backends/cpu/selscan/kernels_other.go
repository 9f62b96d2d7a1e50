//go:build !amd64 || purego

package selscan

func (c *call) run(k *scanArgs)   { scanPortable(k) }
func (c *call) rates(k *rateArgs) { ratePortable(k) }
func (c *call) gate(k *gateArgs)  { gatePortable(k) }
func (c *call) step(k *stepArgs)  { stepPortable(k) }
func (c *linCall) run(k *linArgs) { linPortable(k) }
