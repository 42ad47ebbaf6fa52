package wire_test

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/barnabas-log/barnabas/wire"
)

// kmsg, the codec of franz-go, reads what we write and writes the same, where
// it has the version.
func TestKmsg(t *testing.T) {
	t.Parallel()
	compared, lacking := 0, map[string]bool{}
	failed := map[string]bool{}
	for _, s := range samples(t, 8) {
		theirs, ok := kmsgFor(s)
		if _, isRecord := s.message.(interface{ Key() wire.Key }); !isRecord {
			continue
		}
		if !ok {
			lacking[fmt.Sprint(s.name, " ", s.version)] = true
			continue
		}
		compared++
		if err := compareKmsg(theirs, s.bytes); err != nil && !failed[s.name] {
			failed[s.name] = true
			t.Errorf("%s %d: %v\n%x", s.name, s.version, err, s.bytes)
		}
	}
	t.Logf("%d messages compared; kmsg lacks %v", compared, lacking)
	if compared < 3000 {
		t.Errorf("%d messages compared only", compared)
	}
}

type kmsgMessage interface {
	ReadFrom([]byte) error
	AppendTo([]byte) []byte
}

func kmsgFor(s sample) (kmsgMessage, bool) {
	switch m := s.message.(type) {
	case wire.Request:
		theirs := kmsg.RequestForKey(int16(m.Key()))
		if theirs == nil || s.version > theirs.MaxVersion() {
			return nil, false
		}
		theirs.SetVersion(s.version)
		return theirs, true
	case wire.Response:
		theirs := kmsg.ResponseForKey(int16(m.Key()))
		if theirs == nil || s.version > theirs.MaxVersion() {
			return nil, false
		}
		theirs.SetVersion(s.version)
		return theirs, true
	}
	return nil, false
}

func compareKmsg(theirs kmsgMessage, b []byte) error {
	if err := theirs.ReadFrom(b); err != nil {
		return err
	}
	if again := theirs.AppendTo(nil); !bytes.Equal(again, b) {
		return fmt.Errorf("kmsg writes %s", hex.EncodeToString(again))
	}
	return nil
}
