// Package dafka publishes and consumes records without brokers: producers,
// consumers and stores find each other through towers, and records flow directly
// between them (RFC 46, byte-compatible with the C implementation).
//
//	producer, err := dafka.NewProducer("letters", dafka.ProducerOptions{})
//	…
//	_, err = producer.Publish(ctx, []byte("hello, K."))
//	err = producer.Close(ctx) // waits until a store has everything
//
//	consumer, err := dafka.NewConsumer(dafka.ConsumerOptions{Config: config})
//	err = consumer.Subscribe("letters")
//	for {
//		record, err := consumer.Next(ctx)
//		…
//	}
//
// What one producer publishes on a topic is a partition. Its records come in
// order and each once, whatever is lost on the way: who misses one asks for it
// again, at the producer, which keeps records until a store has them, and at
// stores. Between partitions there is no order.
//
// A [Config] is what C's nodes read from their ZPL files, with the same keys and
// defaults, and more keys of ours.
//
// Packages dafka/store and dafka/tower have the other two roles.
package dafka
