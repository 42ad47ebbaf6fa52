package metadata

import (
	"bytes"
	"cmp"
	"maps"
	"slices"
	"strings"

	"github.com/google/btree"

	"github.com/barnabas-log/barnabas/model"
)

// ResourceType is what a configuration belongs to, by Kafka's numbers.
type ResourceType int8

// The resource types of Kafka's ConfigResource.
const (
	ResourceTopic         ResourceType = 2
	ResourceBroker        ResourceType = 4
	ResourceBrokerLogger  ResourceType = 8
	ResourceClientMetrics ResourceType = 16
	ResourceGroup         ResourceType = 32
)

// Resource is something that can be configured. The default of all brokers is
// the broker "".
type Resource struct {
	Type ResourceType
	Name string
}

// Partition is what the cluster has decided about one partition. It is
// immutable, like everything an Image shows.
type Partition struct {
	Leader         model.NodeID // NoNode while there is none.
	LeaderEpoch    model.Epoch
	PartitionEpoch int32 // Counts every change of this struct.
	Replicas       []model.NodeID
	ISR            []model.NodeID
	Removing       []model.NodeID
	Adding         []model.NodeID
	ELR            []model.NodeID // KIP-966.
	LastKnownELR   []model.NodeID
	Recovery       int8         // 0 recovered, 1 recovering from an unclean election (KIP-704).
	Directories    []model.UUID // Beside Replicas; KIP-858.
	// Created is the offset of the record that made the partition, or NoOffset
	// when it came from a snapshot.
	Created model.Offset
}

// Topic is one topic. Partitions is indexed by partition.
type Topic struct {
	Name       string
	ID         model.TopicID
	Partitions []*Partition
}

// Endpoint is where a broker listens.
type Endpoint struct {
	Listener string
	Host     string
	Port     uint16
	Security int16
}

// Broker is a registered broker.
type Broker struct {
	ID          model.NodeID
	Epoch       int64
	Incarnation model.UUID
	Endpoints   []Endpoint
	Rack        *string
	Fenced      bool
	Stopping    bool // In controlled shutdown.
	Directories []model.UUID
}

type configs struct {
	resource Resource
	values   map[string]string
}

// Image is one state of the cluster.
type Image struct {
	end      model.Offset
	byName   *btree.BTreeG[*Topic]
	byID     *btree.BTreeG[*Topic]
	configs  *btree.BTreeG[*configs]
	quotas   *btree.BTreeG[*Quota]
	brokers  map[model.NodeID]*Broker
	features map[string]int16
	nextPID  model.ProducerID
	count    int // Partitions of all topics.
	// others are records of parts of Kafka that we do not act on (ACLs, SCRAM
	// credentials of a directory taken over). They are carried on in order,
	// so that nothing is lost in a snapshot.
	others []Record
}

// degree of the trees: nodes of this size make a clone of a large image cheap.
const degree = 16

func lessName(a, b *Topic) bool { return a.Name < b.Name }
func lessID(a, b *Topic) bool   { return bytes.Compare(a.ID[:], b.ID[:]) < 0 }
func lessConfigs(a, b *configs) bool {
	return cmp.Or(cmp.Compare(a.resource.Type, b.resource.Type), strings.Compare(a.resource.Name, b.resource.Name)) < 0
}

// Empty returns the image of a cluster that holds nothing.
func Empty() *Image {
	return &Image{
		byName:   btree.NewG(degree, lessName),
		byID:     btree.NewG(degree, lessID),
		configs:  btree.NewG(degree, lessConfigs),
		quotas:   btree.NewG(degree, lessQuota),
		brokers:  map[model.NodeID]*Broker{},
		features: map[string]int16{},
	}
}

// End is one past the last record that the image contains.
func (i *Image) End() model.Offset { return i.end }

// Topic returns the topic of that name, or nil.
func (i *Image) Topic(name string) *Topic {
	t, _ := i.byName.Get(&Topic{Name: name})
	return t
}

// TopicByID returns the topic of that id, or nil.
func (i *Image) TopicByID(id model.TopicID) *Topic {
	t, _ := i.byID.Get(&Topic{ID: id})
	return t
}

// Topics calls each for every topic from the name from on, in the order of
// names, until it returns false.
func (i *Image) Topics(from string, each func(*Topic) bool) {
	i.byName.AscendGreaterOrEqual(&Topic{Name: from}, func(t *Topic) bool { return each(t) })
}

// TopicCount and PartitionCount tell the size of the cluster.
func (i *Image) TopicCount() int { return i.byName.Len() }

// PartitionCount is the number of partitions of all topics.
func (i *Image) PartitionCount() int { return i.count }

// Config returns what was set for r, by key. The map must not be changed.
func (i *Image) Config(r Resource) map[string]string {
	if c, ok := i.configs.Get(&configs{resource: r}); ok {
		return c.values
	}
	return nil
}

// Configs calls each for every resource of a type that has something set, in
// the order of names, until it returns false. The maps must not be changed.
func (i *Image) Configs(t ResourceType, each func(name string, values map[string]string) bool) {
	i.configs.AscendGreaterOrEqual(&configs{resource: Resource{Type: t}}, func(c *configs) bool {
		return c.resource.Type == t && each(c.resource.Name, c.values)
	})
}

// Broker returns a registered broker, or nil.
func (i *Image) Broker(id model.NodeID) *Broker { return i.brokers[id] }

// Brokers returns the registered brokers in the order of their ids.
func (i *Image) Brokers() []*Broker {
	return slices.SortedFunc(maps.Values(i.brokers), func(a, b *Broker) int { return cmp.Compare(a.ID, b.ID) })
}

// Live returns the brokers that may be given work, in the order of their ids.
func (i *Image) Live() []*Broker {
	return slices.DeleteFunc(i.Brokers(), func(b *Broker) bool { return b.Fenced || b.Stopping })
}

// Feature returns the finalised level of a feature, 0 where it is off.
func (i *Image) Feature(name string) int16 { return i.features[name] }

// Features returns the finalised features. The map must not be changed.
func (i *Image) Features() map[string]int16 { return i.features }

// NextProducerID is the first producer id that no broker has been given.
func (i *Image) NextProducerID() model.ProducerID { return i.nextPID }

// clone returns an image that can be changed without changing i. Maps are
// copied by whoever changes them.
func (i *Image) clone() *Image {
	c := *i
	c.byName, c.byID, c.configs, c.quotas = i.byName.Clone(), i.byID.Clone(), i.configs.Clone(), i.quotas.Clone()
	return &c
}
