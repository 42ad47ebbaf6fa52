package controller

import (
	"fmt"
	"slices"
	"strconv"

	"github.com/barnabas-log/barnabas/internal/metadata"
	"github.com/barnabas-log/barnabas/wire"
)

// Level is the metadata.version of Kafka 4.4.0 that our records follow; a
// directory that says more was written by a newer Kafka.
const Level = 33

// minLevel is the oldest metadata.version that Kafka 4 reads.
const minLevel = 7

// ELRVersion is the feature of eligible leader replicas (KIP-966).
const ELRVersion = "eligible.leader.replicas.version"

// GroupVersion is the feature of the consumer protocol (KIP-848), and
// TransactionVersion that of stronger transactions (KIP-890).
const (
	GroupVersion       = "group.version"
	TransactionVersion = "transaction.version"
)

// Feature is a feature that we can serve, and its levels.
type Feature struct {
	Name     string
	Min, Max int16
	// New is the level of a new cluster; 0 is off.
	New int16
}

// Features are what we support: they are advertised, finalised in new clusters,
// and can be switched on and off. Those of share and streams groups, which do
// not exist yet, are left out, so that no client counts on them.
func Features() []Feature {
	return []Feature{
		{metadata.MetadataVersion, minLevel, Level, Level},
		{ELRVersion, 0, 1, 1},
		{GroupVersion, 0, 1, 1},
		{TransactionVersion, 0, 2, 2},
	}
}

// Format returns the records of a new cluster. Like Kafka's formatter, it sets
// min.insync.replicas for all brokers: eligible leader replicas need it.
func Format() []metadata.Record {
	var records []metadata.Record
	for _, f := range Features() {
		if f.New > 0 {
			records = append(records, metadata.Record{Message: metadata.FeatureRecord(f.Name, f.New)})
		}
	}
	return append(records, metadata.Record{Message: metadata.ConfigRecord(allBrokers, minISR, new("1"))})
}

// CheckLevel refuses an image of a newer Kafka, whose records we might
// misread.
func CheckLevel(image *metadata.Image) error {
	if level := image.Feature(metadata.MetadataVersion); level > Level {
		return fmt.Errorf("controller: metadata.version is %d, newer than %d, the newest that this version reads", level, Level)
	}
	return nil
}

// UpgradeType says in which direction a feature may change (KIP-584).
type UpgradeType int8

// The upgrade types, by Kafka's numbers.
const (
	Upgrade         UpgradeType = 1
	SafeDowngrade   UpgradeType = 2
	UnsafeDowngrade UpgradeType = 3
)

// FeatureUpdate is a level that somebody wants a feature to have.
type FeatureUpdate struct {
	Name  string
	Level int16
	Type  UpgradeType
}

// UpdateFeatures decides about several features at once: all change, or none.
func (r Rules) UpdateFeatures(image *metadata.Image, updates []FeatureUpdate) ([]metadata.Record, error) {
	var records []metadata.Record
	for _, u := range lastOfEach(updates) {
		if err := r.updateFeature(image, u); err != nil {
			return nil, err
		}
		if u.Name == ELRVersion && u.Level > 0 {
			records = append(records, r.safeForELR(image)...)
		}
		records = append(records, metadata.Record{Message: metadata.FeatureRecord(u.Name, u.Level)})
	}
	return records, nil
}

// lastOfEach keeps, of what is said of one feature, the last.
func lastOfEach(updates []FeatureUpdate) []FeatureUpdate {
	var out []FeatureUpdate
	for _, u := range updates {
		if i := slices.IndexFunc(out, func(o FeatureUpdate) bool { return o.Name == u.Name }); i >= 0 {
			out[i] = u
			continue
		}
		out = append(out, u)
	}
	return out
}

func (r Rules) updateFeature(image *metadata.Image, u FeatureUpdate) error {
	bad := func(why string) error {
		return refuse(wire.InvalidUpdateVersion, "Invalid update version %d for feature %s. %s", u.Level, u.Name, why)
	}
	now := image.Feature(u.Name)
	i := slices.IndexFunc(Features(), func(f Feature) bool { return f.Name == u.Name })
	switch {
	case u.Type < Upgrade || u.Type > UnsafeDowngrade:
		return bad("The controller does not support the given upgrade type.")
	case u.Level < 0:
		return bad("A feature version cannot be less than 0.")
	case i < 0 && u.Level > 0:
		return bad(fmt.Sprintf("Local controller %d does not support this feature.", r.Config.NodeID))
	case i < 0:
		return bad(fmt.Sprintf("Feature %s not found.", u.Name))
	case u.Level < Features()[i].Min || u.Level > Features()[i].Max:
		return bad(fmt.Sprintf("Local controller %d only supports versions %d-%d", r.Config.NodeID, Features()[i].Min, Features()[i].Max))
	case u.Level < now && u.Type == Upgrade:
		return bad("Can't downgrade the version of this feature without setting the upgrade type to either safe or unsafe downgrade.")
	case u.Level > now && u.Type != Upgrade:
		return bad("Can't downgrade to a newer version.")
	case u.Name == metadata.MetadataVersion && u.Level < now:
		return noOlderRecords(u, now)
	}
	return nil
}

// noOlderRecords refuses an older format of the metadata log: what it cannot
// say would be lost.
func noOlderRecords(u FeatureUpdate, now int16) error {
	why := "Refusing to perform the requested downgrade because it might delete metadata information."
	if u.Type == UnsafeDowngrade {
		why = "Unsafe metadata downgrade is not supported in this version."
	}
	return refuse(wire.InvalidUpdateVersion, "Unsupported metadata.version downgrade from %d to %d. %s", now, u.Level, why)
}

// safeForELR makes min.insync.replicas the same for all brokers, which eligible
// leader replicas take for granted.
func (r Rules) safeForELR(image *metadata.Image) []metadata.Record {
	var records []metadata.Record
	if _, ok := image.Config(allBrokers)[minISR]; !ok {
		value := strconv.Itoa(r.Config.Topic.MinISR)
		records = append(records, metadata.Record{Message: metadata.ConfigRecord(allBrokers, minISR, &value)})
	}
	image.Configs(metadata.ResourceBroker, func(name string, values map[string]string) bool {
		if _, ok := values[minISR]; ok && name != "" {
			of := metadata.Resource{Type: metadata.ResourceBroker, Name: name}
			records = append(records, metadata.Record{Message: metadata.ConfigRecord(of, minISR, nil)})
		}
		return true
	})
	return records
}
