package broker

import (
	"context"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/barnabas-log/barnabas/dafka"
	"github.com/barnabas-log/barnabas/internal/bridge"
)

// startBridge makes the broker a node of a Dafka mesh, if it is to be one.
func (b *Broker) startBridge() error {
	if !b.config.Dafka.Enable {
		return nil
	}
	mesh, err := b.meshConfig()
	if err != nil {
		return fmt.Errorf("dafka.config: %w", err)
	}
	id := b.metadata.Meta().Directory
	x, err := bridge.Start(bridge.Options{
		Config: mesh, Self: b.self(), Address: strings.ToUpper(hex.EncodeToString(id[:])), Partition: b.replicas.Load().PartitionOf,
		Propose: b.quorum.Propose, Rules: b.rules(), MaxPartitions: b.config.Dafka.MaxPartitions, Now: b.opts.Now, Log: b.log("bridge"),
	}, b.quorum.Image())
	if err != nil {
		return fmt.Errorf("dafka: %w", err)
	}
	b.bridge.Store(x)
	x.Publish(nil, b.quorum.Image()) // It may be newer.
	return nil
}

// meshConfig is the file of dafka.config, or Dafka's defaults.
func (b *Broker) meshConfig() (*dafka.Config, error) {
	if b.config.Dafka.File == "" {
		return dafka.DefaultConfig(), nil
	}
	c, err := dafka.LoadConfig(b.config.Dafka.File)
	if err != nil {
		return nil, err
	}
	if unknown := c.Unknown(); len(unknown) > 0 {
		b.log("bridge").Warn("unknown keys in dafka.config", "file", b.config.Dafka.File, "keys", strings.Join(unknown, " "))
	}
	return c, nil
}

func (b *Broker) stopBridge(ctx context.Context) {
	if x := b.bridge.Load(); x != nil {
		x.Close(ctx)
	}
}
