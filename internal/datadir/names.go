package datadir

import (
	"strconv"
	"strings"

	"github.com/barnabas-log/barnabas/model"
)

// Files of a data directory. MarksFile, ReserveFile and StoreLog are ours, the
// others Kafka's. StoreLog is in the directories of Dafka stores only, and named as
// no partition can be.
const (
	LockFile          = ".lock"
	MetaFile          = "meta.properties"
	CleanFile         = ".kafka_cleanshutdown"
	RecoveryPointFile = "recovery-point-offset-checkpoint"
	LogStartFile      = "log-start-offset-checkpoint"
	HighWatermarkFile = "replication-offset-checkpoint"
	CleanerFile       = "cleaner-offset-checkpoint"
	MarksFile         = "barnabas-marks"
	ReserveFile       = "barnabas-reserve"
	PartitionMetaFile = "partition.metadata"
	MetadataLog       = "__cluster_metadata-0"
	StoreLog          = "dafka-partitions"
	deleteSuffix      = "-delete"
	futureSuffix      = "-future"
	straySuffix       = "-stray"
)

// DirKind is what a directory of a log is for.
type DirKind int

// Kinds of directories.
const (
	// Live is the log of a partition.
	Live DirKind = iota
	// Deleted is a log on its way out: TOPIC-N.UUID-delete.
	Deleted
	// Future is a copy that will replace a log of another data directory:
	// TOPIC-N.UUID-future.
	Future
	// Stray is a log that the metadata did not know: TOPIC-N.UUID-stray.
	Stray
)

// LogDir is a directory that holds a log.
type LogDir struct {
	// Name is that of the directory, without its parents.
	Name      string
	Partition model.Partition
	Kind      DirKind
}

// ParseLogDir tells which partition a directory belongs to; false for names
// that are not of a log.
func ParseLogDir(name string) (LogDir, bool) {
	d := LogDir{Name: name}
	plain := name
	for suffix, kind := range map[string]DirKind{deleteSuffix: Deleted, futureSuffix: Future, straySuffix: Stray} {
		if rest, ok := strings.CutSuffix(name, suffix); ok {
			dot := strings.LastIndexByte(rest, '.')
			if dot < 0 {
				continue // A topic may be named "x-delete": then a number follows.
			}
			d.Kind, plain = kind, rest[:dot]
		}
	}
	dash := strings.LastIndexByte(plain, '-')
	if dash <= 0 {
		return d, false
	}
	digits := plain[dash+1:]
	n, err := strconv.ParseUint(digits, 10, 31)
	if err != nil || strconv.Itoa(int(n)) != digits {
		return d, false
	}
	d.Partition = model.Partition{Topic: plain[:dash], Index: int32(n)}
	return d, true
}

const (
	maxFileName = 255
	hexDigits   = 32 // Of a UUID.
)

// Rename returns the directory name that a log gets when it changes its kind;
// unique keeps a topic that is made and deleted again apart.
func Rename(p model.Partition, kind DirKind, unique model.UUID) string {
	suffix := [...]string{Deleted: deleteSuffix, Future: futureSuffix, Stray: straySuffix}[kind]
	if kind == Live {
		return p.String()
	}
	// Kafka writes the UUID in hexadecimal without dashes, and keeps the whole
	// name within the 255 bytes of a file name.
	hex := hexUUID(unique)
	prefix := p.String()
	if room := maxFileName - len(suffix) - 1 - len(hex); len(prefix) > room {
		number := prefix[strings.LastIndexByte(prefix, '-'):]
		prefix = prefix[:room-len(number)] + number
	}
	return prefix + "." + hex + suffix
}

func hexUUID(u model.UUID) string {
	const digits = "0123456789abcdef"
	b := make([]byte, 0, 32)
	for _, c := range u {
		b = append(b, digits[c>>4], digits[c&15])
	}
	return string(b)
}
