package commitlog

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/barnabas-log/barnabas/model"
)

// Suffixes of the files of a segment, and of files in transition.
const (
	logSuffix      = ".log"
	indexSuffix    = ".index"
	timeSuffix     = ".timeindex"
	txnSuffix      = ".txnindex"
	snapshotSuffix = ".snapshot"
	deletedSuffix  = ".deleted" // Renamed by retention, removed later.
	cleanedSuffix  = ".cleaned" // Written by compaction, not yet complete.
	swapSuffix     = ".swap"    // Complete, about to replace its originals.

	// EpochFile is Kafka's list of leader epochs, in every log directory.
	EpochFile = "leader-epoch-checkpoint"
	// truncationFile is ours: it outdates marks older than a truncation.
	truncationFile = "barnabas-truncation"
)

// besideSuffixes are those of the files that belong to a log, segmentSuffixes
// all of a segment. The log comes first when a segment goes: without it the
// others are nothing, and are removed at the next start.
var (
	besideSuffixes  = [...]string{indexSuffix, timeSuffix, txnSuffix}
	segmentSuffixes = [...]string{logSuffix, indexSuffix, timeSuffix, txnSuffix}
)

// FileName returns Kafka's name for a file of the segment, or of the snapshot,
// at an offset: 20 digits and the suffix.
func FileName(base model.Offset, suffix string) string {
	return fmt.Sprintf("%020d%s", int64(base), suffix)
}

// ParseFileName splits a name like 00000000000000000042.log into offset and
// suffix, all suffixes together (".log.deleted").
func ParseFileName(name string) (base model.Offset, suffix string, ok bool) {
	digits, _, found := strings.Cut(name, ".")
	if !found || len(digits) != 20 {
		return 0, "", false
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || n < 0 {
		return 0, "", false
	}
	return model.Offset(n), name[20:], true
}

func (l *Log) path(base model.Offset, suffix string) string {
	return filepath.Join(l.dir, FileName(base, suffix))
}
