package main

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// byteUnit is a word for a number of bytes.
type byteUnit struct {
	word  string
	bytes float64
}

func byteUnits() []byteUnit {
	return []byteUnit{
		{"KiB", 1 << 10},
		{"MiB", 1 << 20},
		{"GiB", 1 << 30},
		{"TiB", 1 << 40},
		{"kB", 1e3},
		{"KB", 1e3},
		{"MB", 1e6},
		{"GB", 1e9},
		{"TB", 1e12},
		{"B", 1},
	}
}

// parseAmount reads a number with an optional unit of bytes: 1048576, 1MiB,
// 1.5 GB.
func parseAmount(s string) (float64, error) {
	s = strings.TrimSpace(s)
	scale := 1.0
	for _, u := range byteUnits() {
		if rest, ok := strings.CutSuffix(s, u.word); ok {
			s, scale = strings.TrimSpace(rest), u.bytes
			break
		}
	}
	n, err := strconv.ParseFloat(s, 64)
	if err != nil || math.IsNaN(n) || math.IsInf(n, 0) {
		return 0, errors.New("want a number, with a unit such as KiB, MB or GiB if it counts bytes")
	}
	return n * scale, nil
}

// formatBytes shows a number of bytes in the largest unit that leaves a digit
// before the point.
func formatBytes(n float64) string {
	for _, u := range []byteUnit{{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}} {
		if math.Abs(n) >= u.bytes {
			return strconv.FormatFloat(math.Round(n/u.bytes*10)/10, 'f', -1, 64) + " " + u.word
		}
	}
	return fmt.Sprintf("%.0f B", n)
}
