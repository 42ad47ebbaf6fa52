package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"github.com/barnabas-log/barnabas/internal/commitlog"
	"github.com/barnabas-log/barnabas/internal/datadir"
	"github.com/barnabas-log/barnabas/internal/producers"
	"github.com/barnabas-log/barnabas/internal/vfs"
	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/record"
	"github.com/spf13/cobra"
)

func newLogCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "log",
		Short: "Look into log directories, ours and Apache Kafka's, and mend them",
		Long: `Look into log directories, ours and Apache Kafka's, and mend them.

dump and verify change nothing, and no broker needs to run; one that does may be
writing the last segment meanwhile. compact and reindex refuse directories that
a broker has.`,
		Example: `  barnabas log dump --records barnabas-data/letters-0
  barnabas log verify barnabas-data`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newLogDumpCmd(), newLogVerifyCmd(), newLogCompactCmd(), newLogReindexCmd())
	return cmd
}

func newLogDumpCmd() *cobra.Command {
	d := &dumper{fs: vfs.OS{}}
	cmd := &cobra.Command{
		Use:   "dump DIR-OR-FILE…",
		Short: "Print the batches, indexes, snapshots and checkpoints of log directories or files",
		Example: `  barnabas log dump barnabas-data/letters-0
  barnabas log dump --records barnabas-data/letters-0/00000000000000000000.log
  barnabas log dump --json barnabas-data/letters-0 | jq .`,
		Args: args(cobra.MinimumNArgs(1)),
		RunE: func(cmd *cobra.Command, paths []string) error {
			d.out, d.json = cmd.OutOrStdout(), json.NewEncoder(cmd.OutOrStdout())
			d.json.SetEscapeHTML(false)
			for _, p := range paths {
				before := d.files
				if err := d.path(p); err != nil {
					return err
				}
				if d.files == before {
					return fmt.Errorf("%s: %w", p, errNoLog)
				}
			}
			if d.damaged > 0 {
				return fmt.Errorf("damage in %s", count(d.damaged, "place"))
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&d.asJSON, "json", false, "print a JSON object per line")
	cmd.Flags().BoolVar(&d.records, "records", false, "print the records of each batch, too")
	return cmd
}

// dumper prints files, a line for each thing in them.
type dumper struct {
	fs              vfs.FS
	out             io.Writer
	json            *json.Encoder
	asJSON, records bool
	at              string // the file that is dumped
	files           int    // dumped so far
	damaged         int    // places where something is wrong
	outErr          error  // why out takes nothing
}

// errNoLog says that a directory is neither a log nor holds any.
var errNoLog = errors.New("no log: want a log directory such as letters-0, or a data directory")

// line prints one thing: its fields as JSON, or as "kind name=value …".
func (d *dumper) line(kind string, fields ...any) error {
	if d.asJSON {
		o := object(kind, fields)
		o["file"] = d.at
		d.outErr = d.json.Encode(o)
		return d.outErr
	}
	var b strings.Builder
	b.WriteString(kind)
	for i := 0; i+1 < len(fields); i += 2 {
		switch v := fields[i+1].(type) {
		case nil:
			fmt.Fprintf(&b, " %s=null", fields[i])
		case shownText:
			fmt.Fprintf(&b, " %s=%q", fields[i], v)
		default:
			fmt.Fprintf(&b, " %s=%v", fields[i], v)
		}
	}
	_, d.outErr = fmt.Fprintln(d.out, b.String())
	return d.outErr
}

// shownText is text of users, quoted where it might be mistaken.
type shownText string

func object(kind string, fields []any) map[string]any {
	m := map[string]any{"kind": kind}
	for i := 0; i+1 < len(fields); i += 2 {
		m[fields[i].(string)] = fields[i+1]
	}
	return m
}

func (d *dumper) path(path string) error {
	info, err := d.fs.Stat(path)
	if err != nil {
		return err
	}
	if !info.Dir {
		return d.file(path)
	}
	infos, err := d.fs.ReadDir(path)
	if err != nil {
		return err
	}
	for _, info := range infos {
		if err := d.entry(filepath.Join(path, info.Name), info); err != nil {
			return err
		}
	}
	return nil
}

// entry dumps what a directory holds, logs in a data directory included;
// files that are not known are left out.
func (d *dumper) entry(path string, info vfs.Info) error {
	if info.Dir {
		if _, ok := datadir.ParseLogDir(info.Name); ok || info.Name == datadir.MetadataLog {
			return d.path(path)
		}
		return nil
	}
	if d.kind(info.Name) == nil {
		return nil
	}
	return d.file(path)
}

func (d *dumper) file(path string) error {
	dump := d.kind(filepath.Base(path))
	if dump == nil {
		return usage("%s: not a file of a log directory", path)
	}
	if !d.asJSON {
		fmt.Fprintln(d.out, "#", path)
	}
	d.files++
	d.at = path
	err := dump(path)
	if err == nil || d.outErr != nil {
		return d.outErr
	}
	d.damaged++
	return d.line("damage", "error", shownText(err.Error()))
}

// kind finds out by its name what a file is.
func (d *dumper) kind(name string) func(path string) error {
	switch name {
	case commitlog.EpochFile:
		return d.epochs
	case datadir.PartitionMetaFile, datadir.MetaFile, datadir.CleanFile, datadir.MarksFile:
		return d.text
	case datadir.RecoveryPointFile, datadir.LogStartFile, datadir.HighWatermarkFile, datadir.CleanerFile:
		return d.offsets
	}
	if strings.HasSuffix(name, ".checkpoint") {
		return d.log // A snapshot of the metadata log is batches, too.
	}
	base, suffix, ok := commitlog.ParseFileName(name)
	if !ok {
		return nil
	}
	for _, passing := range []string{".deleted", ".cleaned", ".swap"} {
		suffix = strings.TrimSuffix(suffix, passing)
	}
	switch suffix {
	case ".log":
		return d.log
	case ".index":
		return func(path string) error { return d.index(path, base) }
	case ".timeindex":
		return func(path string) error { return d.timeIndex(path, base) }
	case ".txnindex":
		return d.txnIndex
	case ".snapshot":
		return d.snapshot
	}
	return nil
}

func (d *dumper) log(path string) error {
	return commitlog.EachBatch(d.fs, path, func(pos int64, b record.Batch) error {
		valid := b.CRC() == b.ComputeCRC()
		fields := []any{
			"position", pos, "size", len(b), "baseOffset", b.BaseOffset(), "lastOffset", b.LastOffset(), "count", b.Count(),
			"leaderEpoch", b.LeaderEpoch(), "maxTimestamp", b.MaxTimestamp(), "timestampType", timestampType(b), "codec", b.Codec().String(),
			"producerId", b.ProducerID(), "producerEpoch", b.ProducerEpoch(), "baseSequence", b.BaseSequence(), "lastSequence", b.LastSequence(),
			"transactional", b.IsTransactional(), "control", b.IsControl(), "crc", fmt.Sprintf("%08x", b.CRC()), "valid", valid,
		}
		if c, err := b.Control(); err == nil {
			fields = append(fields, "marker", c.Type.String())
		}
		if b.HasDeleteHorizon() {
			fields = append(fields, "deleteHorizon", b.BaseTimestamp())
		}
		if !valid {
			d.damaged++
		}
		if err := d.line("batch", fields...); err != nil || !d.records {
			return err
		}
		return d.batchRecords(b, valid)
	})
}

func timestampType(b record.Batch) string {
	if b.IsLogAppendTime() {
		return "LogAppendTime"
	}
	return "CreateTime"
}

func (d *dumper) batchRecords(b record.Batch, valid bool) error {
	for r, err := range b.Records(0) {
		if err != nil {
			if valid { // Else the batch has been counted.
				d.damaged++
			}
			return d.line("damage", "baseOffset", b.BaseOffset(), "error", shownText(err.Error()))
		}
		fields := []any{"offset", r.Offset, "timestamp", r.Timestamp}
		fields = appendBytes(fields, "key", r.Key)
		fields = appendBytes(fields, "value", r.Value)
		for _, h := range r.Headers {
			fields = appendBytes(fields, "header."+h.Key, h.Value)
		}
		if err := d.line("record", fields...); err != nil {
			return err
		}
	}
	return nil
}

// appendBytes shows text as it is and other bytes in base64.
func appendBytes(fields []any, name string, b []byte) []any {
	if b == nil {
		return append(fields, name, nil)
	}
	t, b64 := text(b)
	if t == nil {
		return append(fields, name+"Base64", b64)
	}
	return append(fields, name, shownText(*t))
}

// maxDumpFile bounds the files that are read whole.
const maxDumpFile = 1 << 31

func (d *dumper) read(path string) ([]byte, error) { return vfs.ReadFile(d.fs, path, maxDumpFile) }

func (d *dumper) index(path string, base model.Offset) error {
	b, err := d.read(path)
	if err != nil {
		return err
	}
	for _, e := range commitlog.ParseIndex(b, base) {
		if err := d.line("index", "offset", e.Offset, "position", e.Position); err != nil {
			return err
		}
	}
	return nil
}

func (d *dumper) timeIndex(path string, base model.Offset) error {
	b, err := d.read(path)
	if err != nil {
		return err
	}
	for _, e := range commitlog.ParseTimeIndex(b, base) {
		if err := d.line("timeindex", "timestamp", e.Timestamp, "offset", e.Offset); err != nil {
			return err
		}
	}
	return nil
}

func (d *dumper) txnIndex(path string) error {
	b, err := d.read(path)
	if err != nil {
		return err
	}
	list, err := commitlog.ParseAborted(b)
	for _, t := range list {
		if err := d.line("aborted", "producerId", t.ProducerID, "firstOffset", t.First, "lastOffset", t.Last, "lastStableOffset", t.LastStable); err != nil {
			return err
		}
	}
	return err
}

func (d *dumper) snapshot(path string) error {
	b, err := d.read(path)
	if err != nil {
		return err
	}
	s := producers.New(producers.Options{})
	if err := s.Load(b); err != nil {
		return err
	}
	for _, p := range s.Active() {
		if err := d.line("producer", "producerId", p.ID, "producerEpoch", p.Epoch, "lastSequence", p.LastSequence, "lastTimestamp", p.LastTimestamp,
			"coordinatorEpoch", p.CoordinatorEpoch, "currentTxnFirstOffset", p.TxnFirst); err != nil {
			return err
		}
	}
	return nil
}

func (d *dumper) epochs(path string) error {
	b, err := d.read(path)
	if err != nil {
		return err
	}
	list, err := commitlog.ParseEpochs(b)
	for _, e := range list {
		if err := d.line("epoch", "epoch", e.Epoch, "startOffset", e.Start); err != nil {
			return err
		}
	}
	return err
}

func (d *dumper) offsets(path string) error {
	b, err := d.read(path)
	if err != nil {
		return err
	}
	if _, err := datadir.ParseOffsets(b); err != nil {
		return err
	}
	return d.lines(path, b)
}

func (d *dumper) text(path string) error {
	b, err := d.read(path)
	if err != nil {
		return err
	}
	return d.lines(path, b)
}

func (d *dumper) lines(path string, b []byte) error {
	for l := range strings.Lines(string(b)) {
		if err := d.line(filepath.Base(path), "line", shownText(strings.TrimRight(l, "\r\n"))); err != nil {
			return err
		}
	}
	return nil
}

func newLogVerifyCmd() *cobra.Command {
	v := &verifyRun{fs: vfs.OS{}}
	cmd := &cobra.Command{
		Use:   "verify DIR…",
		Short: "Check every checksum, index, snapshot and checkpoint of log or data directories",
		Long: `Check log directories, or all logs of a data directory: lengths, checksums and
order of all batches, their records, and whether indexes, snapshots, aborted
transactions and leader epochs agree with them. Exit code 1 if anything is wrong.`,
		Example: "  barnabas log verify barnabas-data\n  barnabas log verify --json /var/lib/kafka/letters-0",
		Args:    args(cobra.MinimumNArgs(1)),
		RunE: func(cmd *cobra.Command, dirs []string) error {
			v.out = cmd.OutOrStdout()
			for _, dir := range dirs {
				if err := v.dir(dir); err != nil {
					return err
				}
			}
			return v.finish()
		},
	}
	cmd.Flags().BoolVar(&v.asJSON, "json", false, "print a JSON object per log")
	return cmd
}

// verifyRun adds up what verify finds.
type verifyRun struct {
	fs       vfs.FS
	out      io.Writer
	asJSON   bool
	logs     int
	damaged  int
	problems int
	batches  int64
	records  int64
	bytes    int64
}

// verified is one line of --json.
type verified struct {
	Dir      string       `json:"dir"`
	Start    model.Offset `json:"startOffset"`
	End      model.Offset `json:"endOffset"`
	Segments int64        `json:"segments"`
	Batches  int64        `json:"batches"`
	Records  int64        `json:"records"`
	Bytes    int64        `json:"bytes"`
	Problems []string     `json:"problems"`
}

// dir verifies a log directory, or the logs and checkpoints of a data
// directory.
func (v *verifyRun) dir(dir string) error {
	infos, err := v.fs.ReadDir(dir)
	if err != nil {
		return err
	}
	logs, err := v.logsIn(dir, infos)
	switch {
	case err != nil:
		return err
	case len(logs) == 0 && slices.ContainsFunc(infos, ofLog):
		return v.log(dir)
	case len(logs) == 0 && !slices.ContainsFunc(infos, isMeta):
		return fmt.Errorf("%s: %w", dir, errNoLog)
	}
	for _, log := range logs {
		if err := v.log(log); err != nil {
			return err
		}
	}
	return v.report(verified{Dir: dir, Problems: v.checkpoints(dir)})
}

// logsIn are the logs of a data directory. Where meta.properties does not say that it is one, a name like that of a log
// does not make a log.
func (v *verifyRun) logsIn(dir string, infos []vfs.Info) (logs []string, err error) {
	sure := slices.ContainsFunc(infos, isMeta)
	for _, info := range infos {
		if _, named := datadir.ParseLogDir(info.Name); !info.Dir || !named {
			continue
		}
		path := filepath.Join(dir, info.Name)
		if !sure {
			files, err := v.fs.ReadDir(path)
			if err != nil {
				return nil, err
			}
			if !slices.ContainsFunc(files, ofLog) {
				continue
			}
		}
		logs = append(logs, path)
	}
	return logs, nil
}

func isMeta(info vfs.Info) bool { return info.Name == datadir.MetaFile }

// ofLog reports a file that only a log directory has.
func ofLog(info vfs.Info) bool {
	_, _, isSegment := commitlog.ParseFileName(info.Name)
	return !info.Dir && (isSegment || info.Name == commitlog.EpochFile || info.Name == datadir.PartitionMetaFile)
}

// checkpoints reads the files of a data directory.
func (v *verifyRun) checkpoints(dir string) (problems []string) {
	check := func(file string, parse func([]byte) error) {
		b, err := vfs.ReadFile(v.fs, filepath.Join(dir, file), maxDumpFile)
		if errors.Is(err, fs.ErrNotExist) {
			return
		}
		if err == nil {
			err = parse(b)
		}
		if err != nil {
			problems = append(problems, file+": "+err.Error())
		}
	}
	for _, file := range []string{datadir.RecoveryPointFile, datadir.LogStartFile, datadir.HighWatermarkFile, datadir.CleanerFile} {
		check(file, func(b []byte) error { _, err := datadir.ParseOffsets(b); return err })
	}
	check(datadir.MetaFile, func(b []byte) error { _, err := datadir.ParseMeta(b); return err })
	return problems
}

func (v *verifyRun) log(dir string) error {
	r, err := commitlog.Verify(v.fs, dir)
	if err != nil {
		return err
	}
	out := verified{Dir: dir, Start: r.Start, End: r.End, Segments: r.Segments, Batches: r.Batches, Records: r.Records, Bytes: r.Bytes, Problems: []string{}}
	for _, p := range r.Problems {
		out.Problems = append(out.Problems, p.Error())
	}
	beside, err := v.beside(dir)
	if err != nil {
		return err
	}
	out.Problems = append(out.Problems, beside...)
	v.logs++
	return v.report(out)
}

// beside reads the files of a log directory that the log itself does not
// understand: producer snapshots, snapshots of the metadata log, the topic id.
func (v *verifyRun) beside(dir string) (problems []string, err error) {
	infos, err := v.fs.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	for _, info := range infos {
		if !info.Dir && strings.HasSuffix(info.Name, ".checkpoint") {
			if err := wholeBatches(v.fs, filepath.Join(dir, info.Name)); err != nil {
				problems = append(problems, info.Name+": "+err.Error())
			}
			continue
		}
		_, suffix, ok := commitlog.ParseFileName(info.Name)
		isSnapshot := ok && suffix == ".snapshot"
		if info.Dir || !isSnapshot && info.Name != datadir.PartitionMetaFile {
			continue
		}
		b, err := vfs.ReadFile(v.fs, filepath.Join(dir, info.Name), maxDumpFile)
		if err != nil {
			return nil, err
		}
		if isSnapshot {
			err = producers.New(producers.Options{}).Load(b)
		} else {
			_, err = datadir.ParseTopicID(b)
		}
		if err != nil {
			problems = append(problems, info.Name+": "+err.Error())
		}
	}
	return problems, nil
}

// wholeBatches reads a snapshot of the metadata log, which is batches like those of a log.
func wholeBatches(fsys vfs.FS, path string) error {
	return commitlog.EachBatch(fsys, path, func(pos int64, b record.Batch) error {
		if b.CRC() != b.ComputeCRC() {
			return fmt.Errorf("byte %d: wrong checksum", pos)
		}
		return nil
	})
}

func (v *verifyRun) report(r verified) error {
	v.problems += len(r.Problems)
	v.batches, v.records, v.bytes = v.batches+r.Batches, v.records+r.Records, v.bytes+r.Bytes
	if len(r.Problems) > 0 {
		v.damaged++
	}
	if v.asJSON {
		return json.NewEncoder(v.out).Encode(r)
	}
	for _, p := range r.Problems {
		if _, err := fmt.Fprintf(v.out, "%s: %s\n", r.Dir, p); err != nil {
			return err
		}
	}
	return nil
}

func (v *verifyRun) finish() error {
	if !v.asJSON {
		_, err := fmt.Fprintf(v.out, "%s, %s, %s, %s: %s\n", count(v.logs, "log"), plural(v.batches, "batch", "batches"),
			count(int(v.records), "record"), count(int(v.bytes), "byte"), count(v.problems, "problem"))
		if err != nil {
			return err
		}
	}
	if v.problems > 0 {
		return fmt.Errorf("%s in %s", count(v.problems, "problem"), plural(int64(v.damaged), "directory", "directories"))
	}
	return nil
}
