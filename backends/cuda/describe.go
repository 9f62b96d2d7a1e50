package cuda

import (
	"fmt"
	"strings"

	"github.com/ssdc-go/ssdc/backends/cuda/driver"
	"github.com/ssdc-go/ssdc/backends/cuda/kernels"
)

// Describe says in one line what the backend found on this machine, or why it cannot run here.
func Describe() string {
	all, err := driver.Devices()
	if err != nil {
		return "not available: " + err.Error()
	}
	if len(all) == 0 {
		return "not available: the driver shows no device"
	}
	var parts []string
	for _, d := range all {
		arch, err := kernels.ArchFor(d.Major, d.Minor)
		if err != nil {
			parts = append(parts, d.String()+", not usable: "+err.Error())
			continue
		}
		parts = append(parts, fmt.Sprintf("%s, code for %s", d, arch))
	}
	if dev, err := driver.Open(0); err == nil {
		if b, err := dev.NewBLAS(); err != nil {
			parts = append(parts, "no cuBLASLt, own matrix products ("+err.Error()+")")
		} else {
			parts = append(parts, fmt.Sprintf("cuBLASLt %d.%d", b.Version/10000, b.Version/100%100))
			b.Close()
		}
		if major, minor, err := driver.RTCVersion(); err != nil {
			parts = append(parts, "no NVRTC, chains of element-wise operators are interpreted")
		} else {
			parts = append(parts, fmt.Sprintf("NVRTC %d.%d", major, minor))
		}
		dev.Close()
	}
	return strings.Join(parts, "; ")
}
