package config

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Sources are the places a broker's configuration may come from. Of one key the first wins:
// Flags, Options, Environ, File, default. Where Kafka has several keys for one meaning (log.dirs and log.dir, the units of
// log.retention), the strongest place that names any of them hides all of them in the weaker places.
type Sources struct {
	Flags     map[string]string // key → value, of flags that stand for a key (--data-dir is log.dirs)
	Listen    string            // --listen, HOST:PORT; listeners win over it
	Advertise string            // --advertise, HOST:PORT; advertised.listeners win over it
	Options   []string          // -o, as key=value; of the same key the last
	Environ   []string          // as os.Environ gives it
	File      string            // .yaml and .yml are YAML, all others Kafka's properties; may be empty
	FileData  []byte            // the file's content; nil reads File

	// MemoryBytes is what the machine, or the group the process lives in, has; 0 asks the system.
	MemoryBytes int64
}

// What a bare `barnabas serve` uses.
const (
	DefaultListen  = "127.0.0.1:9092" // not all interfaces, as long as there is no authentication
	DefaultDataDir = "barnabas-data"
)

// ErrSource marks what is wrong with a place (a file that cannot be read, an option without a value, an unknown key), as
// opposed to a value: those are [*InvalidError].
var ErrSource = errors.New("config")

// layer is what one place says.
type layer struct {
	from   string
	values map[string]string
}

// Load merges the sources and checks the result. Warnings are sentences for the log, one each, about keys without effect.
// The error joins everything that is wrong, so that one run shows it all.
func Load(s Sources) (*Broker, []string, error) {
	var warnings []string
	flags := layer{"flags", maps.Clone(s.Flags)}
	options, optErr := parseOptions(s.Options)
	environ := parseEnviron(s.Environ, &s, &warnings)
	file, fileErr := readFile(s, &warnings)
	if err := errors.Join(optErr, fileErr, checkFlags(flags)); err != nil {
		return nil, nil, err
	}
	static := merge([]layer{flags, options, environ, file})
	_, nodeIDGiven := static["node.id"]
	if _, old := static["broker.id"]; old {
		nodeIDGiven = true
	}
	warnings = append(warnings, idleFlags(static, s)...)
	if err := imply(static, s); err != nil {
		return nil, nil, err
	}
	memory := s.MemoryBytes
	if memory == 0 {
		memory = systemMemory()
	}
	b, err := newBroker(static, nil, nil, memory)
	if err == nil {
		err = b.checkTopicDefaults()
	}
	if err != nil {
		return nil, nil, err
	}
	b.NodeIDGiven = nodeIDGiven
	return b, append(warnings, idleKeys(static)...), nil
}

// oneMeaning lists keys that say the same thing.
func oneMeaning() [][]string {
	return [][]string{
		{"log.dirs", "log.dir"},
		{"node.id", "broker.id"},
		{"log.retention.ms", "log.retention.minutes", "log.retention.hours"},
		{"log.roll.ms", "log.roll.hours"},
		{"log.roll.jitter.ms", "log.roll.jitter.hours"},
	}
}

// merge lays the strong over the weak.
func merge(strongFirst []layer) map[string]string {
	static := make(map[string]string)
	for _, l := range slices.Backward(strongFirst) {
		for _, group := range oneMeaning() {
			if slices.ContainsFunc(group, func(k string) bool { _, ok := l.values[k]; return ok }) {
				for _, k := range group {
					delete(static, k)
				}
			}
		}
		maps.Copy(static, l.values)
	}
	return static
}

// idleFlags warns about --listen and --advertise where a key wins over them: who says where to listen means it.
func idleFlags(static map[string]string, s Sources) (warnings []string) {
	idle := func(flag, text, key string) {
		if _, set := static[key]; set && text != "" {
			warnings = append(warnings, fmt.Sprintf("%s %s has no effect, for %s=%s wins over it", flag, text, key, static[key]))
		}
	}
	idle("--listen", s.Listen, "listeners")
	idle("--advertise", s.Advertise, "advertised.listeners")
	return warnings
}

// imply writes down what follows from the flags that are no keys and from Barnabas' own defaults, where Kafka demands a
// value: the node's number, its directory and its address.
func imply(static map[string]string, s Sources) error {
	has := func(k string) bool { _, ok := static[k]; return ok }
	if !has("log.dirs") && !has("log.dir") {
		static["log.dirs"] = DefaultDataDir
	}
	if has("broker.id") && !has("node.id") {
		static["node.id"] = static["broker.id"]
	}
	if !has("node.id") {
		static["node.id"] = "1"
	}
	if !has("broker.id") {
		static["broker.id"] = static["node.id"] // as Kafka does, so that both are described
	}
	if !has("listeners") {
		listen := s.Listen
		if listen == "" {
			listen = DefaultListen
		}
		l, err := hostPort("--listen", listen)
		if err != nil {
			return err
		}
		static["listeners"] = "PLAINTEXT://" + l
	}
	if s.Advertise != "" && !has("advertised.listeners") {
		a, err := hostPort("--advertise", s.Advertise)
		if err != nil {
			return err
		}
		first, _, _ := strings.Cut(static["listeners"], "://")
		static["advertised.listeners"] = strings.TrimSpace(first) + "://" + a
	}
	return nil
}

// hostPort takes HOST:PORT, :PORT, and HOST with Kafka's usual port.
func hostPort(flag, text string) (string, error) {
	host, port, err := net.SplitHostPort(text)
	if err != nil {
		host, port = strings.Trim(text, "[]"), "9092"
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || strings.ContainsAny(host, " ,/[]") {
		return "", fmt.Errorf("%w: %s %q: it must be HOST:PORT", ErrSource, flag, text)
	} else {
		port = strconv.FormatUint(n, 10)
	}
	return net.JoinHostPort(host, port), nil
}

func parseOptions(options []string) (layer, error) {
	l := layer{"-o", make(map[string]string)}
	var errs []error
	for _, o := range options {
		name, value, ok := strings.Cut(o, "=")
		name = strings.TrimSpace(name)
		if !ok {
			errs = append(errs, fmt.Errorf("%w: -o %q: it must be key=value", ErrSource, o))
			continue
		}
		if err := checkKnown("-o", name); err != nil {
			errs = append(errs, err)
		}
		l.values[name] = value
	}
	return l, errors.Join(errs...)
}

func checkFlags(l layer) error { return checkAllKnown("flag", l.values) }

// checkAllKnown names every unknown key of a place.
func checkAllKnown(where string, values map[string]string) error {
	var errs []error
	for _, name := range sortedKeys(values) {
		errs = append(errs, checkKnown(where, name))
	}
	return errors.Join(errs...)
}

func checkKnown(where, name string) error {
	if known(name) {
		return nil
	}
	return fmt.Errorf("%w: %s: unknown key %q%s", ErrSource, where, name, didYouMean(name))
}

func known(name string) bool {
	_, ok := LookupBrokerKey(name)
	return ok || isListenerKey(name)
}

// UnknownKey says of a broker's key that nobody knows so, and what may have been meant; of others it says nothing.
func UnknownKey(name string) string {
	if known(name) {
		return ""
	}
	return fmt.Sprintf("no broker of ours knows %s%s, and it has no effect", name, didYouMean(name))
}

// EnvironName is the variable that sets a key: BARNABAS_LOG_DIRS for log.dirs.
func EnvironName(key string) string {
	return "BARNABAS_" + strings.ToUpper(strings.ReplaceAll(key, ".", "_"))
}

// parseEnviron picks our variables. An empty one counts as absent: compose files and unit files leave such behind.
func parseEnviron(environ []string, s *Sources, warnings *[]string) layer {
	l := layer{"environment", make(map[string]string)}
	names := make(map[string]string)
	for _, k := range brokerTable().keys {
		names[EnvironName(k.Name)] = k.Name
	}
	names["BARNABAS_DATA_DIR"], names["BARNABAS_HTTP"] = "log.dirs", "http.listen"
	for _, pair := range environ {
		name, value, _ := strings.Cut(pair, "=")
		if !strings.HasPrefix(name, "BARNABAS_") || value == "" {
			continue
		}
		key, known := names[name]
		switch {
		case known:
			l.values[key] = value
		case name == "BARNABAS_LISTEN":
			s.Listen = orElse(s.Listen, value)
		case name == "BARNABAS_ADVERTISE":
			s.Advertise = orElse(s.Advertise, value)
		case name == "BARNABAS_BROKERS" || name == "BARNABAS_CONFIG": // of the command line
		default:
			*warnings = append(*warnings, fmt.Sprintf("environment variable %s stands for no key and is ignored", name))
		}
	}
	return l
}

func orElse(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

func readFile(s Sources, warnings *[]string) (layer, error) {
	l := layer{from: s.File}
	if s.File == "" && s.FileData == nil {
		return l, nil
	}
	data := s.FileData
	if data == nil {
		var err error
		if data, err = os.ReadFile(s.File); err != nil {
			return l, fmt.Errorf("%w: %w", ErrSource, err)
		}
	}
	var err error
	switch filepath.Ext(s.File) {
	case ".yaml", ".yml":
		if l.values, err = parseYAML(data); err == nil {
			return l, checkAllKnown(s.File, l.values)
		}
	default:
		l.values, err = parseProperties(bytes.TrimPrefix(data, []byte("\ufeff")))
	}
	if err != nil {
		return l, fmt.Errorf("%w: %s: %w", ErrSource, s.File, err)
	}
	if unknown := withoutListenerKeys(unknownKeys(l.values, brokerTable())); len(unknown) > 0 {
		for i, name := range unknown {
			unknown[i] += didYouMean(name)
		}
		*warnings = append(*warnings, fmt.Sprintf("%s: unknown keys are ignored: %s", s.File, strings.Join(unknown, ", ")))
	}
	return l, nil
}

// idleKeys warns once about all keys that are set and have no effect.
func idleKeys(static map[string]string) []string {
	var later, never []string
	for _, name := range sortedKeys(static) {
		switch key, ok := LookupBrokerKey(name); {
		case ok && key.Status == Later:
			later = append(later, name)
		case ok && key.Status == NotApplicable:
			never = append(never, name)
		}
	}
	var warnings []string
	if len(later) > 0 {
		warnings = append(warnings, "these keys have no effect yet: "+strings.Join(later, ", "))
	}
	if len(never) > 0 {
		warnings = append(warnings, "these keys do not apply to Barnabas and are ignored: "+strings.Join(never, ", "))
	}
	return warnings
}

// Setting is a line of the configuration as it is logged at start.
type Setting struct{ Key, Value string }

// Effective lists what is in force: every key that was set, and every other one that has an effect and a value. Secrets, and keys nobody
// knows, are masked.
func (b *Broker) Effective() []Setting {
	var settings []Setting
	for _, e := range DescribeBroker(b) {
		key, _ := LookupBrokerKey(e.Name)
		if e.IsDefault() && (key.Status > Partial || e.Value == nil || e.Name == "log.dir" && b.sets("log.dirs")) {
			continue
		}
		value := "[hidden]"
		if !e.Sensitive && e.Value != nil {
			value = *e.Value
		}
		settings = append(settings, Setting{e.Name, value})
	}
	slices.SortFunc(settings, func(a, b Setting) int { return strings.Compare(a.Key, b.Key) })
	return settings
}
