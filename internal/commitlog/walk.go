package commitlog

import (
	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/record"
)

// Scan calls each with every batch from the one that holds offset `from` on, up to the
// end that the log has now. The batch is valid during the call only. An error
// of each ends the scan and is returned as it is.
func (l *Log) Scan(from model.Offset, each func(record.Batch) error) error {
	end := l.End()
	buf := *copyBuffers.Get().(*[]byte)
	defer func() { copyBuffers.Put(&buf) }()
	for from < end {
		v, err := l.Read(from, end, copyBlock, true)
		if err != nil {
			return err
		}
		if v.Size() == 0 {
			return nil
		}
		b, err := v.Bytes(buf)
		v.Close()
		if err != nil {
			return l.wrap("scan", err)
		}
		if err := eachBatch(b, each); err != nil {
			return err
		}
		from = v.End()
	}
	return nil
}

func eachBatch(b []byte, each func(record.Batch) error) error {
	for len(b) > 0 {
		batch, rest, err := record.Next(b)
		if err != nil {
			return err
		}
		if err := each(batch); err != nil {
			return err
		}
		b = rest
	}
	return nil
}
