//go:build !linux

package main

import (
	"errors"
	"io"
	"time"
)

func benchRaw(io.Writer, *benchFlags) error {
	return errors.New("bench raw measures with calls that only Linux has")
}

func sleepPrecisely(d time.Duration) { time.Sleep(d) }
