package main

import (
	"bufio"
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// openFilesLimit is the hard limit: a broker takes all of it at its start.
func openFilesLimit() (uint64, bool) {
	var r unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &r); err != nil {
		return 0, false
	}
	return r.Max, true
}

// clockSynchronised asks the kernel, which NTP daemons tell.
func clockSynchronised() (synchronised, known bool) {
	var t unix.Timex
	state, err := unix.Adjtimex(&t)
	if err != nil {
		return false, false
	}
	return state != unix.TIME_ERROR && t.Status&unix.STA_UNSYNC == 0, true
}

// memoryLimit is the memory of the machine, or what a control group leaves of
// it.
func memoryLimit() (int64, bool) {
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return 0, false
	}
	total := int64(info.Totalram) * int64(info.Unit)
	for _, file := range []string{"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"} {
		if n, err := strconv.ParseInt(readLine(file), 10, 64); err == nil && n > 0 {
			total = min(total, n)
		}
	}
	return total, true
}

func inodesUsed(dir string) (percent float64, ok bool) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil || s.Files == 0 { // btrfs and others have no number of them.
		return 0, false
	}
	return 100 * float64(s.Files-s.Ffree) / float64(s.Files), true
}

// diskOf finds the disk behind a directory by its device number.
func diskOf(dir string) diskInfo {
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		return diskInfo{}
	}
	number := strconv.Itoa(int(unix.Major(st.Dev))) + ":" + strconv.Itoa(int(unix.Minor(st.Dev)))
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return diskInfo{}
	}
	i := mountOf(mounts, number, dir)
	if sys, err := filepath.EvalSymlinks("/sys/dev/block/" + number); err == nil {
		i.fill(sys)
	}
	return i
}

// mountOf finds a directory's mount in /proc/self/mountinfo: of several of one
// device the one with the longest path to it.
func mountOf(mounts []byte, number, dir string) (best diskInfo) {
	for s := bufio.NewScanner(bytes.NewReader(mounts)); s.Scan(); {
		before, after, ok := strings.Cut(s.Text(), " - ")
		mount, kind := strings.Fields(before), strings.Fields(after)
		if !ok || len(mount) < 6 || len(kind) < 3 || mount[2] != number || len(mount[4]) < len(best.mountPoint) {
			continue
		}
		if inside, err := filepath.Rel(mount[4], dir); err != nil || strings.HasPrefix(inside, "..") {
			continue
		}
		options := "," + mount[5] + "," + kind[2] + ","
		best = diskInfo{
			fileSystem: strings.TrimSuffix(kind[0], "blk"), mountPoint: mount[4],
			noBarriers: strings.Contains(options, ",nobarrier,") || strings.Contains(options, ",barrier=0,"),
		}
		if fuse, _, _ := strings.Cut(kind[0], "."); fuse == "fuse" {
			best.fileSystem = fuse
		}
	}
	return best
}

// fill reads what /sys knows of a block device. A partition has its disk one
// directory up.
func (i *diskInfo) fill(sys string) {
	if _, err := os.Stat(filepath.Join(sys, "partition")); err == nil {
		sys = filepath.Dir(sys)
	}
	i.device = filepath.Base(sys)
	i.rotating = readLine(filepath.Join(sys, "queue/rotational")) == "1"
	i.cache = readLine(filepath.Join(sys, "queue/write_cache"))
	maker := readLine(filepath.Join(sys, "device/vendor")) + " " + readLine(filepath.Join(sys, "device/model"))
	i.virtual = strings.HasPrefix(i.device, "vd") || strings.HasPrefix(i.device, "xvd")
	for _, m := range []string{"QEMU", "VMware", "Msft", "Google", "VBOX", "Amazon"} {
		i.virtual = i.virtual || strings.Contains(maker, m)
	}
}

// readLine is the first line of a small file, empty if there is none.
func readLine(file string) string {
	b, err := os.ReadFile(file)
	if err != nil {
		return ""
	}
	line, _, _ := strings.Cut(string(b), "\n")
	return strings.TrimSpace(line)
}
