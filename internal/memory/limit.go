package memory

import (
	"io/fs"
	"os"
	"path"
	"strconv"
	"strings"
	"sync"
)

// Limit is the most memory that this process can have, and what has no more: the
// machine, the control group (the container) that it runs in, or the process by its
// limit of addresses. Where none tells, it is 256 GiB: a broken model must not end the
// process by asking for more.
func Limit() (bytes int64, of string) {
	l := limit()
	return l.bytes, l.of
}

type bound struct {
	bytes int64
	of    string
}

var limit = sync.OnceValue(func() bound {
	b := least(total(), os.DirFS("/"))
	if n := addressSpace(); n > 0 && n < b.bytes {
		b = bound{n, "this process (ulimit -v)"}
	}
	return b
})

// least takes the size of the machine, or 0, and the root of its file system.
func least(machine int64, root fs.FS) bound {
	b := bound{1 << 38, "any machine"}
	if machine > 0 {
		b = bound{machine, "this machine"}
	}
	if n := groupLimit(root); n > 0 && n < b.bytes {
		b = bound{n, "the control group (container) of this process"}
	}
	return b
}

// groupLimit is the lowest limit of the process's control group and of those above it,
// in version 1 or 2 or both, or 0 when there is none.
func groupLimit(root fs.FS) int64 {
	var least int64
	groups, mounts := lines(root, "proc/self/cgroup"), lines(root, "proc/self/mountinfo")
	for _, m := range mounts {
		// ID PARENT DEVICE ROOT MOUNTPOINT OPTIONS [TAGS...] - TYPE SOURCE OPTIONS
		left, right, _ := strings.Cut(m, " - ")
		at, of := strings.Fields(left), strings.Fields(right)
		if len(at) < 5 || len(of) < 3 {
			continue
		}
		controller, file := "", "memory.max"
		switch {
		case of[0] == "cgroup" && has(of[2], "memory"):
			controller, file = "memory", "memory.limit_in_bytes"
		case of[0] != "cgroup2":
			continue
		}
		for _, g := range groups {
			// HIERARCHY:CONTROLLERS:PATH, and version 2 is 0 without controllers
			parts := strings.SplitN(g, ":", 3)
			if len(parts) < 3 || !(parts[1] == controller || controller != "" && has(parts[1], controller)) {
				continue
			}
			// In a container the mount may begin at the group itself.
			dir := strings.TrimPrefix(path.Clean("/"+parts[2]), strings.TrimSuffix(unescape(at[3]), "/"))
			for ; ; dir = path.Dir(dir) {
				for _, l := range lines(root, strings.TrimPrefix(path.Join(unescape(at[4]), dir, file), "/")) {
					if n, err := strconv.ParseInt(l, 10, 64); err == nil && n > 0 && (least == 0 || n < least) {
						least = n // "max", and what is near the largest number, are no limits
					}
				}
				if dir == "/" || dir == "." || dir == "" {
					break
				}
			}
		}
	}
	return least
}

// has says whether a list with commas names an item.
func has(list, item string) bool {
	for _, x := range strings.Split(list, ",") {
		if x == item {
			return true
		}
	}
	return false
}

// unescape undoes what mountinfo writes for characters that would end a field.
var unescape = strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace

func lines(root fs.FS, name string) []string {
	b, err := fs.ReadFile(root, name)
	if err != nil {
		return nil // what is not there limits nothing
	}
	return strings.Split(strings.TrimSpace(string(b)), "\n")
}
