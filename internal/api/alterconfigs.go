package api

import (
	"strings"

	"github.com/barnabas-log/barnabas/internal/config"
	"github.com/barnabas-log/barnabas/internal/controller"
	"github.com/barnabas-log/barnabas/internal/metadata"
	"github.com/barnabas-log/barnabas/wire"
)

// configMillis is how long a change of configuration waits for the metadata
// log: these requests name no time.
const configMillis = 30_000

// configAsk is what a request wants of one resource, and what became of it.
type configAsk struct {
	kind int8 // As it came: resources that do not exist are answered, too.
	name string
	keys []controller.KeyChange
	// nulls are the keys whose value is null and must not be.
	nulls []string
	err   error
	done  bool // Answered without the controller.
}

// alterConfigs sets all configs of resources at once (deprecated, and used).
func (s *session) alterConfigs(c *call, q *wire.AlterConfigsRequest) wire.Response {
	asks := make([]configAsk, len(q.Resources))
	for i := range q.Resources {
		in := &q.Resources[i]
		asks[i] = configAsk{kind: in.ResourceType, name: strings.Clone(in.ResourceName)}
		for _, k := range in.Configs {
			asks[i].add(controller.SetConfig, k.Name, k.Value)
		}
	}
	s.changeConfigs(asks, true, q.ValidateOnly)
	r := wire.NewAlterConfigsResponse()
	for i := range asks {
		x := wire.Extend(&r.Responses)
		x.ResourceType, x.ResourceName = asks[i].kind, asks[i].name
		x.ErrorCode, x.ErrorMessage = s.codeOf(asks[i].err, c), message(asks[i].err)
	}
	return r
}

// incrementalAlterConfigs changes single configs of resources (KIP-339).
func (s *session) incrementalAlterConfigs(c *call, q *wire.IncrementalAlterConfigsRequest) wire.Response {
	asks := make([]configAsk, len(q.Resources))
	for i := range q.Resources {
		in := &q.Resources[i]
		asks[i] = configAsk{kind: in.ResourceType, name: strings.Clone(in.ResourceName)}
		for _, k := range in.Configs {
			asks[i].add(controller.ConfigOp(k.ConfigOperation), k.Name, k.Value)
		}
	}
	s.changeConfigs(asks, false, q.ValidateOnly)
	r := wire.NewIncrementalAlterConfigsResponse()
	for i := range asks {
		x := wire.Extend(&r.Responses)
		x.ResourceType, x.ResourceName = asks[i].kind, asks[i].name
		x.ErrorCode, x.ErrorMessage = s.codeOf(asks[i].err, c), message(asks[i].err)
	}
	return r
}

// add notes one key. What it keeps does not alias the frame.
func (a *configAsk) add(op controller.ConfigOp, name string, value *string) {
	k := controller.KeyChange{Name: strings.Clone(name), Op: op}
	switch {
	case value != nil:
		k.Value = strings.Clone(*value)
	case op != controller.DeleteConfig:
		a.nulls = append(a.nulls, k.Name)
	}
	a.keys = append(a.keys, k)
}

// changeConfigs carries out what can be, all of it in one change of the
// metadata log.
func (s *session) changeConfigs(asks []configAsk, replace, validateOnly bool) {
	refuseRepeats(asks)
	var (
		changes []controller.ConfigChange
		at      []int // Whose they are.
	)
	for i := range asks {
		a := &asks[i]
		if a.done {
			continue
		}
		if a.err = s.preprocess(a, replace, validateOnly); a.err == nil && !a.done {
			resource := metadata.Resource{Type: metadata.ResourceType(a.kind), Name: a.name}
			changes = append(changes, controller.ConfigChange{Resource: resource, Keys: a.keys, Replace: replace})
			at = append(at, i)
		}
	}
	if len(changes) == 0 {
		return
	}
	errs := make([]error, len(changes))
	err := s.propose(configMillis, func(image *metadata.Image) ([]metadata.Record, error) {
		records, each, err := s.opts.Rules.AlterConfigs(image, changes)
		if validateOnly {
			records = nil
		}
		copy(errs, each)
		return records, err
	})
	for i, n := range at {
		if asks[n].err = err; err == nil {
			asks[n].err = errs[i]
		}
	}
}

// refuseRepeats refuses resources that come more than once: which one would
// count?
func refuseRepeats(asks []configAsk) {
	var seen places[metadata.Resource]
	first := make([]int, 0, len(asks))
	for i := range asks {
		a := &asks[i]
		n, isNew := seen.at(metadata.Resource{Type: metadata.ResourceType(a.kind), Name: a.name})
		if isNew {
			first = append(first, i)
			continue
		}
		for _, twice := range []*configAsk{&asks[first[n]], a} {
			twice.err, twice.done = invalidRequest("Each resource must appear at most once."), true
		}
	}
}

// preprocess checks what needs no image, and changes loggers, which are no part
// of it.
func (s *session) preprocess(a *configAsk, replace, validateOnly bool) error {
	var seen places[string]
	for i := range a.keys {
		if _, isNew := seen.at(a.keys[i].Name); !isNew {
			return invalidRequest("Error due to duplicate config keys")
		}
	}
	if len(a.nulls) > 0 {
		return invalidRequest("Null value not supported for : %s", strings.Join(a.nulls, ", "))
	}
	switch kind := metadata.ResourceType(a.kind); {
	case kind == metadata.ResourceBrokerLogger && !replace:
		a.done = true
		return s.changeLoggers(a, validateOnly)
	case kind == metadata.ResourceTopic, kind == metadata.ResourceBroker, kind == metadata.ResourceClientMetrics, kind == metadata.ResourceGroup:
		return nil
	}
	return invalidRequest("Unknown resource type %d", a.kind)
}

// changeLoggers sets levels of loggers, all or none (KIP-412).
func (s *session) changeLoggers(a *configAsk, validateOnly bool) error {
	if err := s.checkNode(a.name); err != nil {
		return err
	}
	levels := s.levels()
	for i := range a.keys {
		if err := checkLogger(levels, &a.keys[i]); err != nil {
			return err
		}
	}
	if validateOnly {
		return nil
	}
	for _, k := range a.keys {
		level := k.Value
		if k.Op == controller.DeleteConfig {
			level = ""
		}
		if err := s.opts.Loggers.Set(k.Name, level); err != nil {
			return &config.InvalidError{Message: err.Error()}
		}
		s.opts.Log.Warn("log level changed", "logger", k.Name, "level", level, "peer", s.conn.RemoteAddr())
	}
	return nil
}

// levels are those of the loggers that there are.
func (s *session) levels() map[string]string {
	if s.opts.Loggers == nil {
		return nil
	}
	return s.opts.Loggers.Levels()
}

// checkNode refuses loggers of other nodes.
func (s *session) checkNode(name string) error {
	id, err := parseNode(name)
	switch {
	case err != nil:
		return invalidRequest("Node id must be an integer, but it is: %s", name)
	case id != s.opts.Self:
		return invalidRequest("Unexpected node id. Expected %d, but received %d", s.opts.Self, id)
	}
	return nil
}

func checkLogger(levels map[string]string, k *controller.KeyChange) error {
	_, exists := levels[k.Name]
	switch {
	case k.Op < controller.SetConfig || k.Op > controller.SubtractConfig:
		return invalidRequest("Unknown operation type %d is not allowed for the BROKER_LOGGER resource", k.Op)
	case k.Op > controller.DeleteConfig:
		return invalidRequest("%s operation is not allowed for the BROKER_LOGGER resource", k.Op)
	case !exists:
		return &config.InvalidError{Message: "Logger " + k.Name + " does not exist!"}
	case k.Op == controller.DeleteConfig && k.Name == RootLogger:
		return invalidRequest("Removing the log level of the root logger is not allowed")
	case k.Op == controller.SetConfig && !isLevel(k.Value):
		return &config.InvalidError{Message: "Cannot set the log level of " + k.Name + " to " + k.Value +
			" as it is not a supported log level. Valid log levels are DEBUG, ERROR, FATAL, INFO, TRACE, WARN"}
	}
	return nil
}

func isLevel(word string) bool {
	switch word {
	case "DEBUG", "ERROR", "FATAL", "INFO", "TRACE", "WARN":
		return true
	}
	return false
}
