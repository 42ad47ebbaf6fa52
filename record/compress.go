package record

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"sync"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// DefaultLevel asks [Compress] for the codec's own default: gzip -1, lz4 9,
// zstd 3, as in Kafka (KIP-390).
const DefaultLevel = math.MinInt

// ParseCodec reads a word of compression.type. "uncompressed" is what the
// topic setting calls None.
func ParseCodec(s string) (Codec, error) {
	switch s {
	case "none", "uncompressed":
		return None, nil
	case "gzip":
		return Gzip, nil
	case "snappy":
		return Snappy, nil
	case "lz4":
		return LZ4, nil
	case "zstd":
		return Zstd, nil
	}
	return None, fmt.Errorf("%w: %q", ErrCodec, s)
}

// Compress appends the packed src to dst. The level is Kafka's
// compression.{gzip,lz4,zstd}.level, or DefaultLevel; levels that the libraries
// do not tell apart are mapped to the nearest one, which changes speed and
// size, never readability. Snappy has no levels and is written in the xerial
// framing that Java writes.
func Compress(c Codec, level int, dst, src []byte) ([]byte, error) {
	switch c {
	case None:
		return append(dst, src...), nil
	case Gzip:
		return zip(level, dst, src)
	case Snappy:
		return snap(dst, src), nil
	case LZ4:
		return lz4Frame(level, dst, src)
	case Zstd:
		return zstdFrame(level, dst, src)
	}
	return nil, fmt.Errorf("%w: %d", ErrCodec, c)
}

// encoders are pools as [pools] is, one of each level.
var encoders struct {
	gzip [10]sync.Pool
	lz4  [10]sync.Pool
	zstd [int(zstd.SpeedBestCompression) + 1]sync.Pool
}

func zip(level int, dst, src []byte) ([]byte, error) {
	level = gzipLevel(level)
	z, _ := encoders.gzip[level].Get().(*gzip.Writer)
	if z == nil {
		var err error
		if z, err = newGzip(level); err != nil {
			return nil, err
		}
	}
	out := bytes.NewBuffer(dst)
	z.Reset(out)
	if err := finish(z, src); err != nil {
		return nil, fmt.Errorf("record: gzip: %w", err)
	}
	encoders.gzip[level].Put(z)
	return out.Bytes(), nil
}

func gzipLevel(level int) int {
	if level < gzip.BestSpeed || level > gzip.BestCompression {
		return 6 // What zlib means by -1.
	}
	return level
}

func newGzip(level int) (*gzip.Writer, error) {
	z, err := gzip.NewWriterLevel(nil, gzipLevel(level))
	if err != nil {
		return nil, fmt.Errorf("record: gzip: %w", err)
	}
	return z, nil
}

// lz4Levels translates Kafka's 1 to 9. Kafka takes its default, 9, as the fast
// compressor and all others as the high compressor of that level.
var lz4Levels = [10]lz4.CompressionLevel{
	1: lz4.Level1, 2: lz4.Level2, 3: lz4.Level3, 4: lz4.Level4,
	5: lz4.Level5, 6: lz4.Level6, 7: lz4.Level7, 8: lz4.Level8, 9: lz4.Level9, 0: lz4.Fast,
}

func lz4Frame(level int, dst, src []byte) ([]byte, error) {
	level = lz4Level(level)
	z, _ := encoders.lz4[level].Get().(*lz4.Writer)
	if z == nil {
		var err error
		if z, err = newLZ4(level); err != nil {
			return nil, err
		}
	}
	out := bytes.NewBuffer(dst)
	z.Reset(out)
	if err := finish(z, src); err != nil {
		return nil, fmt.Errorf("record: lz4: %w", err)
	}
	encoders.lz4[level].Put(z)
	return out.Bytes(), nil
}

// lz4Level is an index of lz4Levels.
func lz4Level(level int) int {
	if level == DefaultLevel || level == 9 {
		return 0
	}
	return max(0, min(level, 9))
}

func newLZ4(level int) (*lz4.Writer, error) {
	z := lz4.NewWriter(nil)
	// Java writes 64 KiB independent blocks without a content checksum.
	err := z.Apply(lz4.BlockSizeOption(lz4.Block64Kb), lz4.ChecksumOption(false), lz4.CompressionLevelOption(lz4Levels[level]))
	if err != nil {
		return nil, fmt.Errorf("record: lz4: %w", err)
	}
	return z, nil
}

func finish(w io.WriteCloser, src []byte) error {
	if _, err := w.Write(src); err != nil {
		return err
	}
	return w.Close()
}

func zstdFrame(level int, dst, src []byte) ([]byte, error) {
	speed := zstdSpeed(level)
	z, _ := encoders.zstd[speed].Get().(*zstd.Encoder)
	if z == nil {
		var err error
		if z, err = zstd.NewWriter(nil, zstdOptions(level)...); err != nil {
			return nil, fmt.Errorf("record: zstd: %w", err)
		}
	}
	dst = z.EncodeAll(src, dst)
	encoders.zstd[speed].Put(z)
	return dst, nil
}

func zstdSpeed(level int) zstd.EncoderLevel {
	if level == DefaultLevel || level == 0 {
		level = 3
	}
	return zstd.EncoderLevelFromZstd(level)
}

// zstdOptions writes frames as Java does: without a checksum, as the batch has
// one.
func zstdOptions(level int) []zstd.EOption {
	return []zstd.EOption{
		zstd.WithEncoderLevel(zstdSpeed(level)), zstd.WithEncoderConcurrency(1),
		zstd.WithEncoderCRC(false), zstd.WithLowerEncoderMem(true),
	}
}

func snap(dst, src []byte) []byte { return snapBlocks(append(dst, xerialHead...), src) }

// snapBlocks writes blocks of 32 KiB, each by itself, as snappy-java's stream
// does.
func snapBlocks(dst, src []byte) []byte {
	for len(src) > 0 {
		block := src[:min(len(src), xerialBlock)]
		src = src[len(block):]
		at := len(dst)
		room := s2.MaxEncodedLen(len(block))
		dst = append(dst, make([]byte, 4+room)...)
		packed := s2.EncodeSnappy(dst[at+4:], block)
		binary.BigEndian.PutUint32(dst[at:], uint32(len(packed)))
		dst = dst[:at+4+len(packed)]
	}
	return dst
}
