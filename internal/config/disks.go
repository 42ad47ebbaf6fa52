package config

import (
	"path/filepath"
	"slices"
)

// Disks is what the configuration says about data directories, beside their paths.
type Disks struct {
	// RetentionPercent is how full a file system may be, in percent as df shows them, before the oldest segments of its data
	// directory go; 0 is off (log.retention.disk.percent).
	RetentionPercent int
	// Cordoned are the directories of LogDirs, as they are written there, that take nothing new (cordoned.log.dirs).
	Cordoned []string
	// MoveBytesPerSecond bounds moves between directories (replica.alter.log.dirs.io.max.bytes.per.second); 0 halts them.
	MoveBytesPerSecond int64
	// MoveThreads is how many partitions move at a time (num.replica.alter.log.dirs.threads).
	MoveThreads int
	// Metadata is where the metadata log lives: metadata.log.dir, or the first of LogDirs.
	Metadata string
}

// fillDisks comes after fillIdentity, which reads LogDirs.
func (b *Broker) fillDisks() {
	b.Disks = Disks{
		RetentionPercent: max(0, int(b.int("log.retention.disk.percent"))), MoveBytesPerSecond: b.int("replica.alter.log.dirs.io.max.bytes.per.second"),
		MoveThreads: len(b.LogDirs), Metadata: b.LogDirs[0],
	}
	if n, ok := b.value("num.replica.alter.log.dirs.threads"); ok {
		b.Disks.MoveThreads = int(n.int)
	}
	if dir, ok := b.value("metadata.log.dir"); ok && dir.text != "" {
		b.Disks.Metadata = dir.text
	}
	b.Disks.Cordoned = b.cordoned()
}

// cordoned are the directories of cordoned.log.dirs, all of them for a star.
func (b *Broker) cordoned() []string {
	v, _ := b.value("cordoned.log.dirs")
	if slices.Equal(v.list, []string{"*"}) {
		return b.logDirs()
	}
	return v.list
}

// cordonedNowhere are those that are no data directories.
func (b *Broker) cordonedNowhere() []string {
	dirs := b.logDirs()
	return slices.DeleteFunc(slices.Clone(b.cordoned()), func(dir string) bool { return slices.Contains(dirs, dir) })
}

// logDirs are the data directories as they are written.
func (b *Broker) logDirs() []string {
	dirs, ok := b.value("log.dirs")
	if !ok {
		dirs, _ = b.value("log.dir")
	}
	return dirs.list
}

// IsCordoned reports whether a data directory, named by its absolute path, takes nothing new.
func (d *Disks) IsCordoned(path string) bool {
	return slices.ContainsFunc(d.Cordoned, func(dir string) bool {
		abs, err := filepath.Abs(dir)
		return err == nil && abs == path
	})
}

// percentOrOff takes -1 for off. From 100 on a file system is never fuller, and 0 is never reached.
func percentOrOff(name string, v value) (value, error) {
	if v.int == -1 || v.int >= 1 && v.int <= 99 {
		return v, nil
	}
	return v, invalid(name, v.String(), "Value must be -1 (off), or from 1 to 99")
}
