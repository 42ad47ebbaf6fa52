package partition

import (
	"errors"

	"github.com/barnabas-log/barnabas/internal/config"
	"github.com/barnabas-log/barnabas/record"
)

// recompress packs a batch as the topic's compression.type asks. Nearly always
// that is "producer": as it came, and b is returned.
func recompress(cfg *config.Topic, b record.Batch) (record.Batch, error) {
	codec, level := b.Codec(), -1
	switch cfg.Compression.Type {
	case "uncompressed":
		codec = record.None
	case "gzip":
		codec, level = record.Gzip, cfg.Compression.GzipLevel
	case "snappy":
		codec = record.Snappy
	case "lz4":
		codec, level = record.LZ4, cfg.Compression.LZ4Level
	case "zstd":
		codec, level = record.Zstd, cfg.Compression.ZstdLevel
	}
	if codec == b.Codec() {
		return b, nil
	}
	again, err := record.Recompress(b, codec, level, int(cfg.MaxMessageBytes))
	if errors.Is(err, record.ErrTooBig) { // Kafka looks at the size again, too.
		return nil, &record.Error{Kind: record.TooLarge, Message: err.Error()}
	}
	return again, err
}
