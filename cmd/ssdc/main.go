// Command ssdc compiles and runs state-space models; see ssdc --help.
package main

import (
	"github.com/ssdc-go/ssdc/cmd/cli"
	"github.com/ssdc-go/ssdc/std"
)

func main() { cli.Main(std.Plugin) }
