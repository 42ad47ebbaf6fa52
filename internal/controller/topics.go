package controller

import (
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/barnabas-log/barnabas/internal/config"
	"github.com/barnabas-log/barnabas/internal/metadata"
	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/wire"
)

// Rules are what a broker's configuration says about topics.
type Rules struct {
	Config *config.Broker
	// Effective returns the configuration that holds in an image, if somebody
	// remembers it; nil makes it of Config each time.
	Effective func(*metadata.Image) *config.Broker
	// Directories are the data directories that a broker has; a new partition
	// goes to the one that Place names.
	Place func(model.Partition) model.UUID
	// Cordoned, if not nil, reports that no directory takes new partitions.
	Cordoned func() bool
	// Random is where topic ids come from.
	Random io.Reader
	// Charge is told how many partitions are about to be made or deleted, once for
	// each topic; an error forbids it (KIP-599). Nil charges nobody.
	Charge func(partitions int) error
}

// charge asks whether partitions may be made or deleted.
func (r Rules) charge(partitions int) error {
	if r.Charge == nil {
		return nil
	}
	return r.Charge(partitions)
}

// maxPartitionsPerCreate bounds what one request may make: Kafka refuses more
// records than fit one atomic batch of 10,000.
const maxPartitionsPerCreate = 10_000

// TopicSpec is a topic that somebody wants.
type TopicSpec struct {
	Name string
	// Partitions and Replication may be -1, the broker's default.
	Partitions  int32
	Replication int16
	// Assignment, if any, names the replicas of each partition.
	Assignment []Replicas
	Configs    []config.Override
}

// Replicas are the nodes of one partition, as a client wants them.
type Replicas struct {
	Partition int32
	Nodes     []model.NodeID
}

// TopicCreated is what became of one TopicSpec.
type TopicCreated struct {
	Name        string
	ID          model.TopicID
	Partitions  int32
	Replication int16
	Configs     map[string]string
	Err         error
}

// CreateTopics decides about several topics at once; each stands for itself,
// so that two names of one request may collide, as in Kafka. Names that come
// more than once are refused.
func (r Rules) CreateTopics(image *metadata.Image, specs []TopicSpec) ([]metadata.Record, []TopicCreated, error) {
	if len(specs) > maxPartitionsPerCreate || r.partitions(specs) > maxPartitionsPerCreate {
		return nil, nil, refuse(ErrPolicy, "Excessively large number of partitions per request.")
	}
	count := map[string]int{}
	for _, s := range specs {
		count[s.Name]++
	}
	var records []metadata.Record
	created := make([]TopicCreated, 0, len(specs))
	for _, s := range specs {
		if count[s.Name] > 1 || s.Name == metadataTopic {
			continue
		}
		c := TopicCreated{Name: s.Name}
		made, err := r.create(image, s, &c)
		if err == nil {
			records = append(records, made...)
		}
		c.Err = err
		created = append(created, c)
	}
	for _, s := range specs {
		if count[s.Name] > 1 {
			created = append(created, TopicCreated{Name: s.Name, Err: refuse(ErrInvalidRequest, "Duplicate topic name.")})
			count[s.Name] = 0 // Said once.
		}
	}
	if count[metadataTopic] == 1 {
		created = append(created, TopicCreated{Name: metadataTopic, Err: prohibited()})
	}
	return records, created, nil
}

// partitions is how many a request asks for, the ones it will not get included.
func (r Rules) partitions(specs []TopicSpec) int64 {
	total := int64(0)
	for _, s := range specs {
		switch {
		case len(s.Assignment) > 0:
			total += int64(len(s.Assignment))
		case s.Partitions == -1:
			total += int64(r.Config.NumPartitions)
		default:
			total += int64(max(0, s.Partitions))
		}
	}
	return total
}

// metadataTopic is the name of the metadata log, which is no topic.
const metadataTopic = "__cluster_metadata"

func prohibited() error {
	return refuse(ErrInvalidRequest, "Creation of internal topic %s is prohibited.", metadataTopic)
}

func (r Rules) create(image *metadata.Image, s TopicSpec, c *TopicCreated) ([]metadata.Record, error) {
	if err := CheckName(s.Name); err != nil {
		return nil, err
	}
	if s.Name == metadataTopic {
		return nil, prohibited()
	}
	if image.Topic(s.Name) != nil {
		return nil, refuse(ErrTopicExists, "Topic '%s' already exists.", s.Name)
	}
	if other, ok := collision(image, s.Name); ok {
		return nil, refuse(ErrInvalidName, "Topic '%s' collides with existing topic: %s", s.Name, other)
	}
	configs, err := config.CheckTopic(r.effective(image), s.Configs)
	if err != nil {
		return nil, err
	}
	assignment, err := r.assignment(image, s)
	if err != nil {
		return nil, err
	}
	if err := r.charge(len(assignment)); err != nil {
		return nil, err
	}
	if c.ID, err = model.NewUUID(r.Random); err != nil {
		return nil, err
	}
	c.Partitions, c.Replication, c.Configs = int32(len(assignment)), int16(len(assignment[0])), configs
	return r.topicRecords(s.Name, c.ID, assignment, configs), nil
}

func (r Rules) topicRecords(name string, id model.TopicID, assignment [][]model.NodeID, configs map[string]string) []metadata.Record {
	topic := wire.NewTopicRecord()
	topic.Name, topic.TopicID = strings.Clone(name), id
	records := []metadata.Record{{Message: topic}}
	for _, key := range slices.Sorted(maps.Keys(configs)) {
		resource := metadata.Resource{Type: metadata.ResourceTopic, Name: topic.Name}
		records = append(records, metadata.Record{Message: metadata.ConfigRecord(resource, key, new(configs[key]))})
	}
	for i, replicas := range assignment {
		records = append(records, r.partitionRecord(topic.Name, id, int32(i), replicas))
	}
	return records
}

func (r Rules) partitionRecord(topic string, id model.TopicID, index int32, replicas []model.NodeID) metadata.Record {
	p := wire.NewPartitionRecord()
	p.TopicID, p.PartitionID, p.LeaderEpoch, p.PartitionEpoch = id, index, 0, 0
	for _, n := range replicas {
		p.Replicas = append(p.Replicas, int32(n))
		p.Directories = append(p.Directories, r.Place(model.Partition{Topic: topic, Index: index}))
	}
	p.Isr, p.Leader = p.Replicas, p.Replicas[0]
	return metadata.Record{Message: p, Version: metadata.PartitionRecordVersion}
}

// assignment chooses, or checks, the replicas of every partition.
func (r Rules) assignment(image *metadata.Image, s TopicSpec) ([][]model.NodeID, error) {
	live := image.Live()
	if len(s.Assignment) > 0 {
		return explicit(live, s)
	}
	partitions, replication := s.Partitions, s.Replication
	switch {
	case replication < -1 || replication == 0:
		return nil, refuse(ErrInvalidReplication, "Replication factor must be larger than 0, or -1 to use the default value.")
	case partitions < -1 || partitions == 0:
		return nil, refuse(ErrInvalidPartitions, "Number of partitions was set to an invalid non-positive value.")
	}
	if partitions == -1 {
		partitions = r.Config.NumPartitions
	}
	if replication == -1 {
		replication = r.Config.ReplicationFactor
	}
	if len(live) == 0 || r.Cordoned != nil && r.Cordoned() {
		return nil, refuse(ErrInvalidReplication,
			"Unable to replicate the partition %d time(s): All brokers are currently fenced, or have all their log directories cordoned.", replication)
	}
	if int(replication) > len(live) {
		return nil, tooFewBrokers(int(replication), len(live))
	}
	return spread(live, 0, int(partitions), int(replication)), nil
}

func tooFewBrokers(want, have int) error {
	return refuse(ErrInvalidReplication,
		"Unable to replicate the partition %d time(s): The target replication factor of %d cannot be reached because only %d broker(s) are registered or some brokers have all their log directories cordoned.",
		want, want, have)
}

// explicit checks an assignment that the client made.
func explicit(live []*metadata.Broker, s TopicSpec) ([][]model.NodeID, error) {
	if s.Replication != -1 {
		return nil, refuse(ErrInvalidRequest, "A manual partition assignment was specified, but replication factor was not set to -1.")
	}
	if s.Partitions != -1 {
		return nil, refuse(ErrInvalidRequest, "A manual partition assignment was specified, but numPartitions was not set to -1.")
	}
	byPartition := make(map[int32][]model.NodeID, len(s.Assignment))
	for _, a := range s.Assignment {
		if _, twice := byPartition[a.Partition]; twice {
			return nil, refuse(ErrInvalidAssignment, "Found multiple manual partition assignments for partition %d", a.Partition)
		}
		if err := checkReplicas(live, a.Nodes, len(s.Assignment[0].Nodes)); err != nil {
			return nil, err
		}
		byPartition[a.Partition] = a.Nodes
	}
	out := make([][]model.NodeID, len(s.Assignment))
	for i := range out {
		nodes, ok := byPartition[int32(i)]
		if !ok {
			return nil, refuse(ErrInvalidAssignment, "partitions should be a consecutive 0-based integer sequence")
		}
		out[i] = nodes
	}
	return out, nil
}

func checkReplicas(live []*metadata.Broker, replicas []model.NodeID, want int) error {
	if len(replicas) == 0 {
		return refuse(ErrInvalidAssignment, "The manual partition assignment includes an empty replica list.")
	}
	sorted := slices.Sorted(slices.Values(replicas))
	for i, n := range sorted {
		if i > 0 && sorted[i-1] == n {
			return refuse(ErrInvalidAssignment, "The manual partition assignment includes the broker %d more than once.", n)
		}
		if !slices.ContainsFunc(live, func(b *metadata.Broker) bool { return b.ID == n }) {
			return refuse(ErrInvalidAssignment, "The manual partition assignment includes broker %d, but no such broker is registered.", n)
		}
	}
	if len(replicas) != want {
		return refuse(ErrInvalidAssignment,
			"The manual partition assignment includes a partition with %d replica(s), but this is not consistent with previous partitions, which have %d replica(s).",
			len(replicas), want)
	}
	return nil
}

// DeleteTopics decides about the topics of ids; errors stand beside them. One
// that is gone already is as good as deleted.
func (r Rules) DeleteTopics(image *metadata.Image, ids []model.TopicID) ([]metadata.Record, []error) {
	var records []metadata.Record
	errs := make([]error, len(ids))
	for i, id := range ids {
		t := image.TopicByID(id)
		if t == nil {
			continue
		}
		if errs[i] = r.charge(len(t.Partitions)); errs[i] != nil {
			continue
		}
		m := wire.NewRemoveTopicRecord()
		m.TopicID = id
		records = append(records, metadata.Record{Message: m})
	}
	return records, errs
}

// maxNameLength is what a file name leaves for the topic, after the partition
// and what is appended to the names of directories that are being deleted.
const maxNameLength = 249

// CheckName refuses what Kafka does not take for a topic's name.
func CheckName(name string) error {
	switch {
	case name == "":
		return refuse(ErrInvalidName, "Topic name is invalid: the empty string is not allowed")
	case name == "." || name == "..":
		return refuse(ErrInvalidName, "Topic name is invalid: '%s' is not allowed", name)
	case len(name) > maxNameLength:
		return refuse(ErrInvalidName, "Topic name is invalid: the length of '%s' is longer than the max allowed length %d", name, maxNameLength)
	}
	for _, c := range []byte(name) {
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '.' || c == '_' || c == '-') {
			return refuse(ErrInvalidName,
				"Topic name is invalid: '%s' contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'", name)
		}
	}
	return nil
}

// collision looks for a topic whose name differs in '.' and '_' only: metrics
// systems cannot tell the two apart. It goes down the names as down a trie, so
// that it costs no look at all topics.
func collision(image *metadata.Image, name string) (string, bool) {
	return collisionBelow(image, "", name)
}

// collisionBelow looks for a topic that begins with head and goes on like tail.
func collisionBelow(image *metadata.Image, head, tail string) (string, bool) {
	i := strings.IndexAny(tail, "._")
	if i < 0 {
		return head + tail, image.Topic(head+tail) != nil
	}
	for _, c := range []string{".", "_"} {
		next := head + tail[:i] + c
		if !anyTopic(image, next) {
			continue
		}
		if found, ok := collisionBelow(image, next, tail[i+1:]); ok {
			return found, true
		}
	}
	return "", false
}

// anyTopic reports whether a topic's name begins with prefix.
func anyTopic(image *metadata.Image, prefix string) (found bool) {
	image.Topics(prefix, func(t *metadata.Topic) bool {
		found = strings.HasPrefix(t.Name, prefix)
		return false
	})
	return found
}
