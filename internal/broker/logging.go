package broker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/barnabas-log/barnabas/internal/api"
)

// LowestLevel is what the handler of [Options.Log] has to let through for
// every level to be had: Kafka's TRACE.
const LowestLevel = slog.LevelDebug - 4

// levelWords are Kafka's levels and ours, the loudest first.
func levelWords() []levelWord {
	return []levelWord{
		{"TRACE", LowestLevel},
		{"DEBUG", slog.LevelDebug},
		{"INFO", slog.LevelInfo},
		{"WARN", slog.LevelWarn},
		{"ERROR", slog.LevelError},
		{"FATAL", slog.LevelError + 4},
	}
}

type levelWord struct {
	word  string
	level slog.Level
}

func parseLevel(word string) (slog.Level, bool) {
	for _, w := range levelWords() {
		if w.word == strings.ToUpper(word) {
			return w.level, true
		}
	}
	return 0, false
}

func levelName(l slog.Level) string {
	for _, w := range levelWords() {
		if l <= w.level {
			return w.word
		}
	}
	return "FATAL"
}

// rooms are the parts of the broker that log.
func rooms() []string {
	return []string{"api", "bridge", "broker", "coordinator", "quorum", "replicas"}
}

// logging gives each room a logger whose level can be changed at any time. A
// room without a level of its own follows the root. It implements
// [api.Loggers].
type logging struct {
	base slog.Handler

	mu    sync.Mutex
	root  slog.Level
	rooms map[string]*room
}

type room struct {
	level slog.LevelVar
	own   bool
}

// newLogging takes levels as log.level has them: info,replicas=debug.
func newLogging(base slog.Handler, levels string) (*logging, error) {
	l := &logging{base: base, root: slog.LevelInfo, rooms: map[string]*room{}}
	for _, name := range rooms() {
		l.rooms[name] = &room{}
	}
	for _, e := range strings.Split(levels, ",") {
		name, level, of := strings.Cut(e, "=")
		if !of {
			name, level = api.RootLogger, name
		}
		if err := l.Set(name, level); err != nil && e != "" {
			return nil, fmt.Errorf("log.level: %w", err)
		}
	}
	return l, nil
}

// logger is the logger of a room.
func (l *logging) logger(name string) *slog.Logger {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slog.New(&roomHandler{l.base.WithAttrs([]slog.Attr{slog.String("room", name)}), &l.rooms[name].level})
}

// RootLogger is a logger for what is said before a broker runs: it follows the
// root of levels (log.level), and names no room.
func RootLogger(base slog.Handler, levels string) (*slog.Logger, error) {
	l, err := newLogging(base, levels)
	if err != nil {
		return nil, err
	}
	h := &roomHandler{Handler: base, level: &slog.LevelVar{}}
	h.level.Set(l.root)
	return slog.New(h), nil
}

// Levels returns the level of every logger, in Kafka's words.
func (l *logging) Levels() map[string]string {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := map[string]string{api.RootLogger: levelName(l.root)}
	for name, r := range l.rooms {
		out[name] = levelName(r.level.Level())
	}
	return out
}

// Set changes the level of one logger; "" makes it follow the root, and the
// root go back to INFO.
func (l *logging) Set(name, level string) error {
	wanted, ok := parseLevel(level)
	if !ok && level != "" {
		return fmt.Errorf("%q is no level", level)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	switch r := l.rooms[name]; {
	case name == api.RootLogger:
		if l.root = wanted; level == "" {
			l.root = slog.LevelInfo
		}
	case r == nil:
		return errNoRoom(name, slices.Sorted(maps.Keys(l.rooms)))
	default:
		r.own = level != ""
		r.level.Set(wanted)
	}
	for _, r := range l.rooms {
		if !r.own {
			r.level.Set(l.root)
		}
	}
	return nil
}

var errRoom = errors.New("no such logger")

func errNoRoom(name string, known []string) error {
	return fmt.Errorf("%w: %q; there are %s and %s", errRoom, name, api.RootLogger, strings.Join(known, ", "))
}

// roomHandler lets through what its room's level says.
type roomHandler struct {
	slog.Handler
	level *slog.LevelVar
}

// Enabled reports whether a level is logged now.
func (h *roomHandler) Enabled(ctx context.Context, l slog.Level) bool {
	return l >= h.level.Level() && h.Handler.Enabled(ctx, l)
}

// WithAttrs and WithGroup keep the room.
func (h *roomHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &roomHandler{h.Handler.WithAttrs(attrs), h.level}
}

// WithGroup keeps the room.
func (h *roomHandler) WithGroup(name string) slog.Handler {
	return &roomHandler{h.Handler.WithGroup(name), h.level}
}

// log is the logger of a room of this broker.
func (b *Broker) log(name string) *slog.Logger { return b.logging.logger(name) }
