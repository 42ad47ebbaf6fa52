package controller

import (
	"errors"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/barnabas-log/barnabas/internal/config"
	"github.com/barnabas-log/barnabas/internal/metadata"
	"github.com/barnabas-log/barnabas/wire"
)

// ConfigOp is what is to be done to one key (KIP-339).
type ConfigOp int8

// The operations, by Kafka's numbers.
const (
	SetConfig      ConfigOp = 0
	DeleteConfig   ConfigOp = 1
	AppendConfig   ConfigOp = 2
	SubtractConfig ConfigOp = 3
)

// KeyChange is one key of a ConfigChange. Value is not looked at by
// DeleteConfig.
type KeyChange struct {
	Name  string
	Op    ConfigOp
	Value string
}

// ConfigChange is what somebody wants of the configuration of one resource.
// Replace removes every key that is not named. No key is named twice.
type ConfigChange struct {
	Resource metadata.Resource
	Keys     []KeyChange
	Replace  bool
}

const (
	// maxRecords is how many records one request may cause: more do not fit an
	// atomic batch of Kafka's.
	maxRecords = 10_000
	// maxValueLength is Kafka's, in bytes: no record has room for more. (Kafka
	// counts UTF-16 units, and fails at what lies between.)
	maxValueLength = 1<<15 - 1
)

// AlterConfigs decides about the configurations of several resources, each of
// which changes whole or not at all. The errors stand beside the changes; the
// last one refuses everything. No resource comes twice.
func (r Rules) AlterConfigs(image *metadata.Image, changes []ConfigChange) ([]metadata.Record, []error, error) {
	var records []metadata.Record
	errs := make([]error, len(changes))
	for i := range changes {
		made, err := r.alterConfig(image, &changes[i])
		if errors.Is(err, wire.UnknownServerError) {
			return nil, nil, err
		}
		if errs[i] = err; err == nil {
			records = append(records, made...)
		}
	}
	if elr(image) {
		records = append(records, clearELR(records)...)
	}
	if len(records) > maxRecords {
		return nil, nil, refuse(ErrPolicy, "Unable to perform excessively large batch operation.")
	}
	return records, errs, nil
}

func (r Rules) alterConfig(image *metadata.Image, c *ConfigChange) ([]metadata.Record, error) {
	was := image.Config(c.Resource)
	if err := r.checkNode(image, was, c); err != nil {
		return nil, err
	}
	will, altered, err := c.apply(was)
	if err != nil {
		return nil, err
	}
	if err := r.checkConfig(image, c.Resource, was, will, altered); err != nil {
		return nil, err
	}
	records := make([]metadata.Record, 0, len(altered))
	for _, key := range altered {
		var value *string
		if text, ok := will[key]; ok {
			value = &text
		}
		records = append(records, metadata.Record{Message: metadata.ConfigRecord(c.Resource, key, value)})
	}
	return records, nil
}

// apply returns the configuration that is wanted, and the keys that it changes,
// in the order in which they were named. The keys of brokers count as changed
// even when their values stay: that makes brokers load them anew (KAFKA-14136).
func (c *ConfigChange) apply(was map[string]string) (will map[string]string, altered []string, err error) {
	will = maps.Clone(was)
	if will == nil || c.Replace {
		will = map[string]string{}
	}
	named := make(map[string]bool, len(c.Keys))
	for _, k := range c.Keys {
		named[k.Name] = true
		value, err := k.newValue(c.Resource.Type, was)
		if err != nil {
			return nil, nil, err
		}
		if value == nil {
			delete(will, k.Name)
		} else {
			will[k.Name] = *value
		}
		old, had := was[k.Name]
		if c.Resource.Type == metadata.ResourceBroker || had != (value != nil) || had && old != *value {
			altered = append(altered, k.Name)
		}
	}
	if !c.Replace {
		return will, altered, nil
	}
	for _, key := range slices.Sorted(maps.Keys(was)) {
		if !named[key] {
			altered = append(altered, key)
		}
	}
	return will, altered, nil
}

// newValue is what a key is to be, nil for nothing. Lists are cut and joined at
// bare commas, as Kafka's controller does it: what was written stays as it was.
func (k *KeyChange) newValue(of metadata.ResourceType, was map[string]string) (*string, error) {
	switch k.Op {
	case SetConfig:
		return &k.Value, nil
	case DeleteConfig:
		return nil, nil
	case AppendConfig, SubtractConfig:
	default: // Kafka's controller stumbles over it, and with it the request.
		return nil, wire.UnknownServerError
	}
	key, ok := lookup(of, k.Name)
	if !ok || key.Type != config.List {
		return nil, &config.InvalidError{Message: "Can't " + k.Op.String() + " to key " + k.Name + " because its type is not LIST."}
	}
	old, ok := was[k.Name]
	if !ok {
		old = key.Default
	}
	value := k.Op.onList(old, k.Value)
	return &value, nil
}

// onList appends to a list what it does not have, or takes away what it has.
func (op ConfigOp) onList(old, change string) string {
	list := slices.DeleteFunc(strings.Split(old, ","), func(e string) bool { return e == "" })
	for _, e := range strings.Split(change, ",") {
		i := slices.Index(list, e)
		switch {
		case op == AppendConfig && i < 0:
			list = append(list, e)
		case op == SubtractConfig && i >= 0:
			list = slices.Delete(list, i, i+1)
		}
	}
	return strings.Join(list, ",")
}

// String returns Kafka's word.
func (op ConfigOp) String() string {
	switch op {
	case SetConfig:
		return "SET"
	case DeleteConfig:
		return "DELETE"
	case AppendConfig:
		return "APPEND"
	case SubtractConfig:
		return "SUBTRACT"
	}
	return "ConfigOp(" + strconv.Itoa(int(op)) + ")"
}

// lookup finds the key of a topic or broker: those alone can be appended to.
func lookup(of metadata.ResourceType, name string) (config.Key, bool) {
	switch of {
	case metadata.ResourceTopic:
		return config.LookupTopicKey(name)
	case metadata.ResourceBroker:
		return config.LookupBrokerKey(name)
	}
	return config.Key{}, false
}

// checkNode does what the node that is asked checks of its own configuration
// before the controller hears of it.
func (r Rules) checkNode(image *metadata.Image, was map[string]string, c *ConfigChange) error {
	if c.Resource.Type != metadata.ResourceBroker {
		return nil
	}
	named := c.Resource.Name != ""
	if named {
		id, err := strconv.ParseInt(c.Resource.Name, 10, 32)
		switch {
		case err != nil:
			return refuse(ErrInvalidRequest, "Node id must be an integer, but it is: %s", c.Resource.Name)
		case int32(id) != r.Config.NodeID:
			return refuse(ErrInvalidRequest, "Unexpected broker id, expected %d, but received %s", r.Config.NodeID, c.Resource.Name)
		}
	}
	now := r.effective(image)
	want := config.Readable(was, named)
	if c.Replace {
		want = map[string]string{}
	}
	for _, k := range c.Keys {
		if err := k.onNode(want); err != nil {
			return err
		}
	}
	return now.CheckDynamic(want, named)
}

// onNode changes one key of a broker's configuration, in the words of the node.
func (k *KeyChange) onNode(want map[string]string) error {
	switch k.Op {
	case SetConfig:
		want[k.Name] = k.Value
		return nil
	case DeleteConfig:
		delete(want, k.Name)
		return nil
	case AppendConfig, SubtractConfig:
	default:
		return refuse(ErrInvalidRequest, "Unknown operations type %d", k.Op)
	}
	key, known := config.LookupBrokerKey(k.Name)
	switch {
	case !known:
		return &config.InvalidError{Message: "Unknown config name: " + k.Name}
	case key.Type != config.List:
		return &config.InvalidError{
			Message: "Config value " + strings.ToLower(k.Op.String()) + " is not allowed for config key: " + k.Name,
		}
	}
	old, ok := want[k.Name]
	if !ok {
		old = key.Default
	}
	want[k.Name] = k.Op.onList(old, k.Value)
	return nil
}

// checkConfig does what the controller checks, in its order.
func (r Rules) checkConfig(image *metadata.Image, of metadata.Resource, was, will map[string]string, altered []string) error {
	for _, key := range altered {
		value, set := will[key]
		switch {
		case key == minISR && of.Type == metadata.ResourceBroker && elr(image) && of.Name != "":
			return &config.InvalidError{Message: "Broker-level min.insync.replicas cannot be altered while ELR is enabled."}
		case key == minISR && of.Type == metadata.ResourceBroker && elr(image) && !set:
			return &config.InvalidError{Message: "Cluster-level min.insync.replicas cannot be removed while ELR is enabled."}
		case set && len(value) > maxValueLength:
			return &config.InvalidError{Message: "The configuration value cannot be added because it exceeds the maximum value size of 32767 bytes."}
		}
	}
	return r.checkResource(image, of, was, will)
}

func (r Rules) checkResource(image *metadata.Image, of metadata.Resource, was, will map[string]string) error {
	switch of.Type {
	case metadata.ResourceTopic:
		if of.Name == "" {
			return refuse(ErrInvalidRequest, "Default topic resources are not allowed.")
		}
		if err := CheckName(of.Name); err != nil {
			return err
		}
		if err := config.CheckTopicChange(r.effective(image), was, will); err != nil {
			return err
		}
		if image.Topic(of.Name) == nil {
			return refuse(ErrUnknownTopic, "The topic '%s' does not exist.", of.Name)
		}
	case metadata.ResourceClientMetrics:
		if of.Name == "" {
			return refuse(ErrInvalidRequest, "Subscription name can't be empty")
		}
		return config.CheckClientMetrics(will)
	case metadata.ResourceGroup:
		if of.Name == "" {
			return refuse(ErrInvalidRequest, "Default group resources are not allowed.")
		}
		return config.CheckGroup(r.effective(image), will)
	}
	return nil
}

const minISR = "min.insync.replicas"

// elr reports whether eligible leader replicas are on (KIP-966).
func elr(image *metadata.Image) bool { return image.Feature(ELRVersion) > 0 }

// clearELR forgets eligible leaders where fewer replicas in sync will do from
// now on, or more are needed.
func clearELR(changes []metadata.Record) []metadata.Record {
	var records []metadata.Record
	for _, c := range changes {
		m, ok := c.Message.(*wire.ConfigRecord)
		if !ok || m.Name != minISR {
			continue
		}
		forget := wire.NewClearElrRecord()
		if metadata.ResourceType(m.ResourceType) == metadata.ResourceTopic {
			forget.TopicName = m.ResourceName
		}
		records = append(records, metadata.Record{Message: forget})
	}
	return records
}
