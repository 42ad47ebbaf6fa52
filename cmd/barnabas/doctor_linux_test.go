package main

import "testing"

func TestMountOf(t *testing.T) {
	const mounts = `22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 22 0:25 / /dev/shm rw,nosuid - tmpfs tmpfs rw
40 22 8:17 / /data rw,relatime shared:9 - ext4 /dev/sdb1 rw,barrier=0
41 40 8:17 /in /data/in rw - ext4 /dev/sdb1 rw
42 22 0:50 / /mnt/s3 rw - fuse.s3fs s3fs rw
broken line
`
	f := func(number, dir, fileSystem, mount string, noBarriers bool) {
		t.Helper()
		got := mountOf([]byte(mounts), number, dir)
		if got.fileSystem != fileSystem || got.mountPoint != mount || got.noBarriers != noBarriers {
			t.Errorf("%s %s: %+v", number, dir, got)
		}
	}
	f("8:1", "/var/lib/barnabas", "ext4", "/", false)
	f("0:25", "/dev/shm/x", "tmpfs", "/dev/shm", false)
	f("8:17", "/data/x", "ext4", "/data", true)
	f("8:17", "/data/in/x", "ext4", "/data/in", false)
	f("8:17", "/database", "", "", false)
	f("0:50", "/mnt/s3/x", "fuse", "/mnt/s3", false)
	f("9:9", "/", "", "", false)
}
