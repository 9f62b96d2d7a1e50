package memory

import (
	"strings"
	"testing"
	"testing/fstest"
)

func TestLeast(t *testing.T) {
	const gib = 1 << 30
	v1 := "35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory"
	v2 := "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate"
	none := "9223372036854771712"
	for _, c := range []struct {
		name, groups, mounts string
		files                map[string]string
		machine, want        int64
		of                   string
	}{
		{"nothing known", "", "", nil, 0, 256 * gib, "any machine"},
		{"no groups", "", "", nil, 8 * gib, 8 * gib, "this machine"},
		{"2, no limit", "0::/user.slice", v2, map[string]string{"sys/fs/cgroup/user.slice/memory.max": "max"}, 8 * gib, 8 * gib, "this machine"},
		{"2, own limit", "0::/a/b", v2, map[string]string{"sys/fs/cgroup/a/b/memory.max": "2147483648"}, 8 * gib, 2 * gib, "container"},
		{"2, a limit above", "0::/a/b", v2, map[string]string{"sys/fs/cgroup/a/b/memory.max": "max", "sys/fs/cgroup/a/memory.max": "1073741824"}, 8 * gib, gib, "container"},
		{"2, the lowest counts", "0::/a/b", v2, map[string]string{"sys/fs/cgroup/a/b/memory.max": "1073741824", "sys/fs/cgroup/a/memory.max": "4294967296"}, 8 * gib, gib, "container"},
		{"2, more than the machine has", "0::/a", v2, map[string]string{"sys/fs/cgroup/a/memory.max": "1099511627776"}, 8 * gib, 8 * gib, "this machine"},
		{"2, own name space", "0::/", v2, map[string]string{"sys/fs/cgroup/memory.max": "1073741824"}, 8 * gib, gib, "container"},
		{"2, the machine does not tell", "0::/", v2, map[string]string{"sys/fs/cgroup/memory.max": "1073741824"}, 0, gib, "container"},
		{"2, the mount begins at the group", "0::/docker/12ab", strings.Replace(v2, " / ", " /docker/12ab ", 1), map[string]string{"sys/fs/cgroup/memory.max": "1073741824"}, 8 * gib, gib, "container"},
		{"2, outside of the mount", "0::/../other", v2, map[string]string{"sys/fs/cgroup/memory.max": "max"}, 8 * gib, 8 * gib, "this machine"},
		{"1, no limit", "4:memory:/a", v1, map[string]string{"sys/fs/cgroup/memory/a/memory.limit_in_bytes": none}, 8 * gib, 8 * gib, "this machine"},
		{"1, own limit", "5:cpu,cpuacct:/x\n4:memory:/a", v1, map[string]string{"sys/fs/cgroup/memory/a/memory.limit_in_bytes": "3221225472"}, 8 * gib, 3 * gib, "container"},
		{"1, a limit above", "4:memory:/a/b", v1, map[string]string{"sys/fs/cgroup/memory/a/b/memory.limit_in_bytes": none, "sys/fs/cgroup/memory/a/memory.limit_in_bytes": "3221225472"}, 8 * gib, 3 * gib, "container"},
		{"1, the mount begins at the group", "4:memory:/docker/12ab", strings.Replace(v1, " / ", " /docker/12ab ", 1), map[string]string{"sys/fs/cgroup/memory/memory.limit_in_bytes": "1073741824"}, 8 * gib, gib, "container"},
		{"1 beside 2", "4:memory:/a\n0::/b", v1 + "\n" + strings.Replace(v2, "/sys/fs/cgroup", "/sys/fs/cgroup/unified", 1), map[string]string{"sys/fs/cgroup/memory/a/memory.limit_in_bytes": "2147483648", "sys/fs/cgroup/unified/b/memory.max": "1073741824"}, 8 * gib, gib, "container"},
		{"another controller's", "4:cpu:/a", strings.Replace(v1, "memory", "cpu", 2), map[string]string{"sys/fs/cgroup/cpu/a/memory.limit_in_bytes": "1"}, 8 * gib, 8 * gib, "this machine"},
		{"a space in the name", "0::/a b", strings.Replace(v2, "/sys/fs/cgroup", `/sys/fs/c\040g`, 1), map[string]string{"sys/fs/c g/a b/memory.max": "1073741824"}, 8 * gib, gib, "container"},
		{"nonsense", "0\n::\n0::/a", "x\n- cgroup2\n" + v2, map[string]string{"sys/fs/cgroup/a/memory.max": "-5\nabc"}, 8 * gib, 8 * gib, "this machine"},
	} {
		root := fstest.MapFS{"proc/self/cgroup": {Data: []byte(c.groups + "\n")}, "proc/self/mountinfo": {Data: []byte(c.mounts + "\n")}}
		for name, data := range c.files {
			root[name] = &fstest.MapFile{Data: []byte(data + "\n")}
		}
		if b := least(c.machine, root); b.bytes != c.want || !strings.Contains(b.of, c.of) {
			t.Errorf("%s: %d of %s, expected %d of %s", c.name, b.bytes, b.of, c.want, c.of)
		}
	}
	n, of := Limit()
	if n <= 0 || of == "" {
		t.Errorf("here: %d of %q", n, of)
	}
	if p := Part(4); p <= 0 || p > n/4 { // a container's limit holds for parts too
		t.Errorf("a quarter of %d is %d", n, p)
	}
}
