package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/barnabas-log/barnabas/internal/datadir"
	"github.com/barnabas-log/barnabas/internal/vfs"
	"github.com/barnabas-log/barnabas/model"
)

// isDirOf reports that a path of this machine is the data directory of that
// node: its name alone would not say so.
func isDirOf(path, cluster string, id model.NodeID) bool {
	b, err := vfs.ReadFile(vfs.OS{}, filepath.Join(path, datadir.MetaFile), 1<<20)
	if err != nil {
		return false
	}
	m, err := datadir.ParseMeta(b)
	return err == nil && m.Cluster == cluster && m.Node == id
}

// countLogs counts the partitions in a data directory, as node status does: without the metadata log.
func countLogs(dir string) (n int) {
	infos, err := vfs.OS{}.ReadDir(dir)
	if err != nil {
		return 0
	}
	for _, info := range infos {
		if l, ok := datadir.ParseLogDir(info.Name); ok && info.Dir && l.Kind == datadir.Live && info.Name != datadir.MetadataLog {
			n++
		}
	}
	return n
}

// checkDir looks at a data directory: may it be written, how full is its disk,
// how fast, and does it keep what it says it keeps.
func (d *doctor) checkDir(dir string) {
	at, err := existing(dir)
	if err != nil {
		d.change("directory "+dir, "name a directory that the user whom the broker runs as may use", "%v", err)
		return
	}
	d.checkIdentity(dir)
	d.checkFull(dir, at)
	disk := diskOf(at)
	measured, err := measureDisk(at)
	if err != nil {
		d.change("directory "+dir, "give it to the user that the broker runs as; look for a read-only mount or a full disk", "not written: %v", err)
		return
	}
	d.checkSpeed(dir, measured)
	d.checkHonesty(dir, disk, measured)
}

// existing is the directory, or the nearest above it that is there.
func existing(dir string) (string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	for {
		info, err := os.Stat(dir)
		switch {
		case errors.Is(err, fs.ErrNotExist) && dir != filepath.Dir(dir):
			dir = filepath.Dir(dir)
		case err != nil:
			return "", err
		case !info.IsDir():
			return "", fmt.Errorf("%s is a file", dir)
		default:
			return dir, nil
		}
	}
}

// checkIdentity says whose a directory is.
func (d *doctor) checkIdentity(dir string) {
	check := "directory " + dir
	b, err := vfs.ReadFile(vfs.OS{}, filepath.Join(dir, datadir.MetaFile), 1<<20)
	const advice = "restore " + datadir.MetaFile + " from a backup; without it the directory is nobody's"
	if errors.Is(err, fs.ErrNotExist) {
		if _, lost := os.Stat(filepath.Join(dir, datadir.MetadataLog)); lost == nil {
			d.change(check, advice, "a metadata log, and no %s", datadir.MetaFile)
			return
		}
		d.ok(check, "no broker's yet")
		return
	}
	var m datadir.Meta
	if err == nil {
		m, err = datadir.ParseMeta(b)
	}
	if err != nil {
		d.change(check, advice, "%v", err)
		return
	}
	d.ok(check, "of node %d, cluster %s, %s", m.Node, m.Cluster, count(countLogs(dir), "partition"))
}

// How full a file system may be, in percent.
const (
	fullNote   = 85
	fullChange = 95
)

func (d *doctor) checkFull(dir, at string) {
	check := "disk space " + dir
	u, err := vfs.OS{}.DiskUsage(at)
	if err != nil {
		d.note(check, "", "not known: %v", err)
		return
	}
	const advice = "delete topics or records, add space, or set log.retention.disk.percent; a full disk refuses writes"
	found := fmt.Sprintf("%.0f%% used, %s free of %s", u.Percent(), formatBytes(float64(u.Free)), formatBytes(float64(u.Total)))
	switch p := u.Percent(); {
	case p >= fullChange:
		d.change(check, advice, "%s", found)
	case p >= fullNote:
		d.note(check, advice, "%s", found)
	default:
		d.ok(check, "%s", found)
	}
	if used, ok := inodesUsed(at); ok && used >= fullChange {
		d.change(check, "make a file system with more inodes: each segment needs three files", "%.0f%% of the inodes are used", used)
	}
}

// measurement is what a disk did in a few seconds.
type measurement struct {
	syncs          int
	median, p99    time.Duration // of a write of 4 KiB and its sync
	bytesPerSecond float64       // written in one go and synced, 0 if not measured
}

// What a disk is measured with. Together a slow disk takes some five seconds.
const (
	syncBytes   = 4 << 10
	mostSyncs   = 500
	syncsTime   = 2 * time.Second
	streamBytes = 64 << 20
	streamTime  = 3 * time.Second
	streamRoom  = 1 << 30 // left free on the disk, or the stream is not measured
)

// measureDisk writes to a file without a name, which goes when this process
// does, however that ends.
func measureDisk(dir string) (m measurement, err error) {
	f, err := os.CreateTemp(dir, ".barnabas-doctor-*")
	if err != nil {
		return m, err
	}
	defer f.Close()
	if err := os.Remove(f.Name()); err != nil {
		return m, err
	}
	if err := m.measureSyncs(f); err != nil {
		return m, err
	}
	if u, err := (vfs.OS{}).DiskUsage(dir); err == nil && u.Free > streamRoom+streamBytes {
		err = m.measureStream(f)
		if err != nil {
			return m, err
		}
	}
	return m, nil
}

// measureSyncs appends small blocks and syncs each, as a lone producer would.
func (m *measurement) measureSyncs(f *os.File) error {
	block := make([]byte, syncBytes)
	var took []time.Duration
	for end := time.Now().Add(syncsTime); len(took) < mostSyncs && time.Now().Before(end); {
		began := time.Now()
		if _, err := f.Write(block); err != nil {
			return err
		}
		if err := f.Sync(); err != nil {
			return err
		}
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	m.syncs, m.median, m.p99 = len(took), took[len(took)/2], took[len(took)*99/100]
	return nil
}

func (m *measurement) measureStream(f *os.File) error {
	block := make([]byte, 1<<20)
	for i := range block { // Not zeros: some disks are fast at nothing.
		block[i] = byte(i * i >> 3)
	}
	began := time.Now()
	written := 0
	for written < streamBytes && time.Since(began) < streamTime {
		n, err := f.Write(block)
		if err != nil {
			return err
		}
		written += n
	}
	if err := f.Sync(); err != nil {
		return err
	}
	m.bytesPerSecond = float64(written) / time.Since(began).Seconds()
	return nil
}

// A disk that takes longer for a sync makes every acks=all wait that long.
const (
	slowSync     = 20 * time.Millisecond
	verySlowSync = 200 * time.Millisecond
)

func (d *doctor) checkSpeed(dir string, m measurement) {
	check := "disk speed " + dir
	found := fmt.Sprintf("a sync takes %v (p99 %v)", m.median.Round(time.Microsecond), m.p99.Round(time.Microsecond))
	if m.bytesPerSecond > 0 {
		found += fmt.Sprintf(", %.0f MB/s written", m.bytesPerSecond/1e6)
	}
	const advice = "acks=all waits for a sync: take a faster disk, or durability=os where a power cut may cost the newest records"
	switch {
	case m.median >= verySlowSync:
		d.change(check, advice, "%s", found)
	case m.median >= slowSync || m.p99 >= verySlowSync:
		d.note(check, advice, "%s", found)
	default:
		d.ok(check, "%s", found)
	}
}

// diskInfo is what the system says of the disk behind a directory. The zero
// value knows nothing.
type diskInfo struct {
	fileSystem string // "ext4"
	mountPoint string
	noBarriers bool   // mounted so that syncs do not reach the disk
	device     string // "nvme0n1"
	rotating   bool
	virtual    bool   // of a virtual machine
	cache      string // "write back" or "write through", empty if unknown
}

// Syncs that are faster than a disk of that kind can be.
const (
	// rotatingSync: a platter turns at most 250 times a second, and a block comes
	// by once a turn.
	rotatingSync = 2 * time.Millisecond
	// anySync: a system call, a command to a device and its answer take longer.
	anySync = 10 * time.Microsecond
)

// checkHonesty says where a sync may come back before the data is safe. That
// cannot be proved from here; these are the signs.
func (d *doctor) checkHonesty(dir string, disk diskInfo, m measurement) {
	check := "disk honesty " + dir
	on := fmt.Sprintf("%s on %s", orUnknown(disk.fileSystem), orUnknown(disk.device))
	switch {
	case disk.fileSystem == "tmpfs" || disk.fileSystem == "ramfs":
		d.change(check, "take a directory on a disk", "%s is memory: nothing survives a restart of the machine", disk.fileSystem)
	case disk.noBarriers:
		d.change(check, "mount "+disk.mountPoint+" without nobarrier and barrier=0", "%s is mounted without barriers: a sync does not reach the disk", disk.mountPoint)
	case disk.fileSystem == "overlay":
		d.note(check, "mount a volume there", "a container's own layer, gone with the container")
	case disk.network():
		d.note(check, "take a disk of the machine's own; else see that the server syncs what it is told to sync, and that locks work", "%s is a network file system", disk.fileSystem)
	case m.median < anySync:
		d.note(check, "ask whoever runs the machine what becomes of flushes; test it by pulling the plug", "%s: a sync of %v reaches no disk", on, m.median)
	case disk.rotating && m.median < rotatingSync && disk.virtual:
		d.note(check, "see that the host's cache mode is none, writethrough or directsync, not unsafe", "%s: a virtual disk that calls itself rotating and syncs in %v", on, m.median.Round(time.Microsecond))
	case disk.rotating && m.median < rotatingSync:
		d.note(check, "a controller with a battery may; else switch its cache off (hdparm -W0)", "%s: no rotating disk syncs in %v", on, m.median.Round(time.Microsecond))
	default:
		d.ok(check, "%s, cache %s: nothing speaks against it", on, orUnknown(disk.cache))
	}
}

func (i *diskInfo) network() bool {
	return slices.Contains([]string{"nfs", "nfs4", "cifs", "smb3", "9p", "virtiofs", "fuse", "ceph", "glusterfs"}, i.fileSystem)
}

func orUnknown(s string) string {
	if s == "" {
		return "unknown"
	}
	return s
}
