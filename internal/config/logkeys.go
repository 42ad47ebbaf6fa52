package config

import "strings"

// LogLevels are the words for how much is logged, the most silent last.
func LogLevels() []string { return []string{"debug", "info", "warn", "error"} }

// logLevels takes a level, and room=level.
func logLevels(name string, v value) (value, error) {
	for _, e := range v.list {
		room, level, of := strings.Cut(e, "=")
		if !of {
			level = room
		}
		if _, err := oneOf(LogLevels()...)(name, value{typ: String, text: level}); err != nil || of && room == "" {
			return v, invalid(name, e, "it must be one of "+strings.Join(LogLevels(), ", ")+", or room=level")
		}
	}
	return v, nil
}
