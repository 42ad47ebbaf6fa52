package record

import (
	"bytes"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"
)

// repack appends all that the window will show to dst, packed. As with
// checking, a batch that does not fit the window is packed as it is unpacked.
func (w *window) repack(c Codec, level int, dst []byte, limit int) ([]byte, error) {
	if w.err != nil || w.ended {
		if w.err != nil {
			return nil, w.err
		}
		return Compress(c, level, dst, w.data)
	}
	out := &bounded{limit: limit}
	out.Write(dst)
	p, err := w.takeTurn(turns).openPacker(c, level, out)
	if err != nil {
		return nil, err
	}
	for more := true; more; more = w.more() {
		if _, err := p.Write(w.data); err != nil {
			return nil, err
		}
		w.data = w.data[:0]
	}
	if w.err != nil {
		return nil, w.err
	}
	if err := p.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// bounded refuses to grow above limit.
type bounded struct {
	bytes.Buffer
	limit int
}

func (b *bounded) Write(p []byte) (int, error) {
	if b.Len()+len(p) > b.limit {
		return 0, fmt.Errorf("%w: a batch of more than %d bytes", ErrTooBig, b.limit)
	}
	return b.Buffer.Write(p)
}

// Close ends what is not packed at all.
func (*bounded) Close() error { return nil }

// packerWindow is how far zstd looks back: the library's 8 MiB and more of each
// level would be taken by every batch, at once.
const packerWindow = 1 << 20

// openPacker returns a writer that packs into out.
func (t *turn) openPacker(c Codec, level int, out *bounded) (io.WriteCloser, error) {
	switch c {
	case Gzip:
		z, err := newGzip(level)
		if err == nil {
			z.Reset(out)
		}
		return z, err
	case Snappy:
		return &snappyPacker{out: out}, nil
	case LZ4:
		z, err := newLZ4(lz4Level(level))
		if err == nil {
			z.Reset(out)
		}
		return z, err
	case Zstd:
		return t.openZstdPacker(level, out)
	}
	return out, nil
}

func (t *turn) openZstdPacker(level int, out *bounded) (io.WriteCloser, error) {
	z := t.zstd[zstdSpeed(level)]
	if z == nil {
		var err error
		if z, err = zstd.NewWriter(nil, append(zstdOptions(level), zstd.WithWindowSize(packerWindow))...); err != nil {
			return nil, fmt.Errorf("record: zstd: %w", err)
		}
		t.zstd[zstdSpeed(level)] = z
	}
	z.Reset(out)
	return z, nil
}

// snappyPacker writes Java's framing.
type snappyPacker struct {
	out   *bounded
	block []byte
	begun bool
}

func (s *snappyPacker) Write(p []byte) (int, error) {
	s.block = s.block[:0]
	if !s.begun {
		s.block, s.begun = append(s.block, xerialHead...), true
	}
	s.block = snapBlocks(s.block, p)
	if _, err := s.out.Write(s.block); err != nil {
		return 0, err
	}
	return len(p), nil
}

func (*snappyPacker) Close() error { return nil }

// xerialHead is the magic, the version and the least compatible version.
const xerialHead = xerialMagic + "\x00\x00\x00\x01\x00\x00\x00\x01"
