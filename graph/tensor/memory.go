package tensor

import (
	"bufio"
	"fmt"
	"os"
	"sync"
)

// machineMemory is the size of the machine's memory, or 256 GiB where it does not tell.
var machineMemory = sync.OnceValue(func() int {
	const unknown = 1 << 38
	f, err := os.Open("/proc/meminfo")
	if err != nil {
		return unknown
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		var kb int
		if n, _ := fmt.Sscanf(s.Text(), "MemTotal: %d kB", &kb); n == 1 && kb > 0 {
			return kb << 10
		}
	}
	return unknown
})
