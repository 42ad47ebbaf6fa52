package fabric

// A subscription is the start of the frames that are wanted: a kind, and a topic
// or the start of one. It has no zero byte at its end, so that who subscribes to
// the topic "id" gets "idle", too.

// Prefix is a subscription to topics that start with topic.
func (k Kind) Prefix(topic string) []byte { return append([]byte{byte(k)}, topic...) }

// ProducerPrefixes is what a producer subscribes to.
func ProducerPrefixes(self string) [][]byte {
	return [][]byte{Ack.Prefix(self), Fetch.Prefix(self)}
}

// ConsumerPrefixes is what a consumer subscribes to, whatever its topics.
func ConsumerPrefixes(self string) [][]byte {
	return [][]byte{DirectRecord.Prefix(self), DirectHead.Prefix(self), StoreHello.Prefix(self)}
}

// TopicPrefixes is what a consumer subscribes to for each of its topics.
func TopicPrefixes(topic string) [][]byte {
	return [][]byte{Record.Prefix(topic), Head.Prefix(topic)}
}

// WriterPrefixes is what a store's writer subscribes to with priority: answers
// to itself. The last two are for what other stores have, and ours.
func WriterPrefixes(self string) [][]byte {
	return [][]byte{DirectRecord.Prefix(self), DirectHead.Prefix(self), StoreHello.Prefix(self)}
}

// PublishedPrefixes is what a store's writer subscribes to besides: everything
// that is published.
func PublishedPrefixes() [][]byte { return [][]byte{Record.Prefix(""), Head.Prefix("")} }

// ReaderPrefixes is what a store's reader subscribes to.
func ReaderPrefixes(self string) [][]byte {
	return [][]byte{Fetch.Prefix(""), GetHeads.Prefix(""), ConsumerHello.Prefix(self)}
}

// BeaconPrefixes is what a node subscribes to at its towers.
func BeaconPrefixes() [][]byte { return [][]byte{[]byte(welcome), []byte(beacon)} }
