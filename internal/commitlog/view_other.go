//go:build !linux

package commitlog

import "io"

func (v View) sendTo(io.Writer) (sent int64, done bool, err error) { return 0, false, nil }
