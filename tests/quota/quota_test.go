package quota

import (
	"testing"
	"time"

	"github.com/barnabas-log/barnabas/tests/node"
)

func TestMain(m *testing.M) { node.Main(m) }

func seconds(n int) time.Duration { return time.Duration(n) * time.Second }
