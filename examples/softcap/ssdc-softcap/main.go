// Command ssdc-softcap is ssdc with the softcap plugin.
package main

import (
	"github.com/ssdc-go/ssdc/cmd/cli"
	"github.com/ssdc-go/ssdc/examples/softcap"
	"github.com/ssdc-go/ssdc/std"
)

func main() { cli.Main(std.Plugin, softcap.Plugin) }
