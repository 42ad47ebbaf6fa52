package api

import (
	"github.com/barnabas-log/barnabas/internal/commitlog"
	"github.com/barnabas-log/barnabas/internal/partition"
	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/wire"
)

// A fetch answer is written by hand, because its records are not in memory:
// they are sections of files, put between the bytes. TestFetchEncoding holds
// it against the generated encoder in every version.

// encode appends the whole frame but for the records, and places their views.
func (f *fetchAnswer) encode(out []byte) []byte {
	v, a := f.call.Version, f.call.a
	flexible := v >= fetchDiverging
	out, start := wire.BeginFrame(out)
	out = wire.AppendResponseHeader(out, wire.FetchKey, v, f.call.CorrelationID)
	out = wire.AppendInt32(out, 0) // Throttle time.
	if v >= fetchInSessions {
		out = wire.AppendInt16(out, int16(f.failed))
		out = wire.AppendInt32(out, f.sessionID)
	}
	out = appendLen(out, f.byTopic(nil), flexible)
	f.byTopic(func(parts []fetchPart) {
		switch {
		case v >= fetchByID:
			out = wire.AppendUUID(out, parts[0].id)
		case flexible:
			out = wire.AppendCompactString(out, parts[0].topic)
		default:
			out = wire.AppendString(out, parts[0].topic)
		}
		out = appendLen(out, len(parts), flexible)
		for i := range parts {
			out = f.encodePart(out, &parts[i], flexible)
		}
		if flexible {
			out = wire.AppendNoTags(out)
		}
	})
	if flexible {
		out = wire.AppendNoTags(out)
	}
	out = wire.EndFrame(out, start)
	// The size counts the views too.
	size := len(out) - start - wire.FrameSizeBytes + a.ViewBytes()
	wire.AppendInt32(out[:start], int32(size))
	return out
}

func (f *fetchAnswer) encodePart(out []byte, p *fetchPart, flexible bool) []byte {
	v := f.call.Version
	hw, lso, logStart := p.offsets()
	out = wire.AppendInt32(out, p.index)
	out = wire.AppendInt16(out, f.partCode(p))
	out = wire.AppendInt64(out, hw)
	out = wire.AppendInt64(out, lso)
	if v >= 5 {
		out = wire.AppendInt64(out, logStart)
	}
	out = f.encodeAborted(out, p, flexible)
	if v >= 11 {
		out = wire.AppendInt32(out, -1) // Preferred read replica: here.
	}
	size := p.read.View.Size()
	if flexible {
		out = wire.AppendUvarint(out, uint32(size)+1)
	} else {
		out = wire.AppendInt32(out, int32(size))
	}
	if size > 0 {
		f.call.a.Insert(len(out), p.read.View)
	}
	p.read.View = commitlog.View{}
	if !flexible {
		return out
	}
	if d := p.read.Diverged; d != nil {
		out = wire.AppendUvarint(out, 1)
		out = wire.AppendTag(out, 0, 4+8+1)
		out = wire.AppendInt32(out, int32(d.Epoch))
		out = wire.AppendInt64(out, int64(d.End))
		return wire.AppendNoTags(out)
	}
	return wire.AppendNoTags(out)
}

// offsets are what Kafka shows of a partition: nothing when it has an error.
func (p *fetchPart) offsets() (hw, lso, logStart int64) {
	if p.err != nil {
		return int64(model.NoOffset), int64(model.NoOffset), int64(model.NoOffset)
	}
	s := p.read.State
	return int64(s.Committed), int64(s.Stable), int64(s.Start)
}

func (f *fetchAnswer) partCode(p *fetchPart) int16 {
	if p.err == nil {
		return 0
	}
	f.session.stats.FetchErrors.Add(1)
	code := f.session.codeOf(p.err, &f.call)
	if code == int16(wire.KafkaStorageError) && f.call.Version < firstFetchStorageError {
		code = int16(wire.NotLeaderOrFollower)
	}
	f.session.stats.failed(f.call.Key, wire.ErrorCode(code))
	return code
}

// firstFetchStorageError is the first version whose clients know
// KAFKA_STORAGE_ERROR; others look for another leader, as they should.
const firstFetchStorageError = 6

func (f *fetchAnswer) encodeAborted(out []byte, p *fetchPart, flexible bool) []byte {
	switch {
	case p.missing: // Never null there, in Kafka.
		return appendLen(out, 0, flexible)
	case f.isolation != partition.Committed || p.err != nil:
		return appendLen(out, -1, flexible)
	}
	out = appendLen(out, len(p.aborted), flexible)
	for _, t := range p.aborted {
		out = wire.AppendInt64(out, int64(t.ProducerID))
		out = wire.AppendInt64(out, int64(t.First))
		if flexible {
			out = wire.AppendNoTags(out)
		}
	}
	return out
}

// appendLen appends the length of an array; -1 is null.
func appendLen(out []byte, n int, flexible bool) []byte {
	if flexible {
		return wire.AppendCompactArrayLen(out, n)
	}
	return wire.AppendArrayLen(out, n)
}
