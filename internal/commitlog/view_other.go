//go:build !linux

package commitlog

import "io"

func (v View) sendTo(w io.Writer) (sent int64, done bool, err error) { return v.sendFile(w) }

// sendFile is for the systems on which sendfile was measured.
func (v View) sendFile(io.Writer) (sent int64, done bool, err error) { return 0, false, nil }
