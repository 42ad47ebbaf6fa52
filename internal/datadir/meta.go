package datadir

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/barnabas-log/barnabas/internal/vfs"
	"github.com/barnabas-log/barnabas/model"
)

// ErrIdentity says that a data directory belongs to another node or cluster
// than the configuration says.
var ErrIdentity = errors.New("datadir: belongs to another")

// Identity is what the configuration says of a node. What a directory says wins
// over what is not said here, and contradictions are refused.
type Identity struct {
	// Node is the node's id, or model.NoNode if it was not configured.
	Node model.NodeID
	// DefaultNode is the id of a new directory if Node is model.NoNode.
	DefaultNode model.NodeID
	// Cluster is the cluster's id, or "" if it is not known: a new directory gets a new one.
	Cluster string
	// Store says that the directory is a Dafka store's, and no broker's.
	Store bool
}

// Meta is the content of meta.properties.
type Meta struct {
	Node      model.NodeID
	Cluster   string
	Directory model.UUID
}

// ParseMeta reads a meta.properties of version 1, a Java properties file.
func ParseMeta(b []byte) (Meta, error) {
	props := map[string]string{}
	for line := range strings.Lines(string(b)) {
		line = strings.TrimLeft(strings.TrimRight(line, "\r\n"), " \t\f")
		if line == "" || line[0] == '#' || line[0] == '!' {
			continue
		}
		k, v := splitProperty(line)
		props[k] = v
	}
	m := Meta{Node: model.NoNode, Cluster: props["cluster.id"]}
	switch v := props["version"]; v {
	case "1":
	case "":
		return m, fmt.Errorf("datadir: %s: damaged, it has no version: restore it from a backup", MetaFile)
	case "0":
		return m, fmt.Errorf("datadir: %s: of a Kafka with ZooKeeper: let Kafka migrate it to KRaft first", MetaFile)
	default:
		return m, fmt.Errorf("datadir: %s: version %q, want 1: it is of a newer release, or damaged", MetaFile, v)
	}
	n, err := strconv.ParseInt(props["node.id"], 10, 32)
	if err != nil || n < 0 {
		return m, fmt.Errorf("datadir: %s: damaged, node.id is %q: restore it from a backup", MetaFile, props["node.id"])
	}
	m.Node = model.NodeID(n)
	if m.Cluster == "" {
		return m, fmt.Errorf("datadir: %s: damaged, it has no cluster.id: restore it from a backup", MetaFile)
	}
	if v, ok := props["directory.id"]; ok { // Kafka before 3.7 had none.
		if m.Directory, err = model.ParseUUID(v); err != nil {
			return m, fmt.Errorf("datadir: %s: damaged, directory.id: %w: restore it from a backup", MetaFile, err)
		}
	}
	return m, nil
}

// splitProperty splits a line at the first unescaped '=', ':' or blank. A
// backslash makes the next character itself; Java's \uXXXX never occurs in the
// keys and ids of this file.
func splitProperty(line string) (key, value string) {
	var b strings.Builder
	i := 0
	for ; i < len(line) && !strings.ContainsRune("=: \t", rune(line[i])); i++ {
		if line[i] == '\\' && i+1 < len(line) {
			i++
		}
		b.WriteByte(line[i])
	}
	key = b.String()
	rest := strings.TrimLeft(line[i:], " \t")
	if rest != "" && (rest[0] == '=' || rest[0] == ':') {
		rest = strings.TrimLeft(rest[1:], " \t")
	}
	b.Reset()
	for i := 0; i < len(rest); i++ {
		if rest[i] == '\\' && i+1 < len(rest) {
			i++
		}
		b.WriteByte(rest[i])
	}
	return key, b.String()
}

// Format is the reverse of ParseMeta.
func (m Meta) Format() []byte {
	escape := strings.NewReplacer(`\`, `\\`, `=`, `\=`, `:`, `\:`, `#`, `\#`, `!`, `\!`)
	return fmt.Appendf(nil, "node.id=%d\ndirectory.id=%s\nversion=1\ncluster.id=%s\n", m.Node, m.Directory, escape.Replace(m.Cluster))
}

// identify reads meta.properties, or writes it.
func (d *Dir) identify(want Identity, random io.Reader) error {
	path := filepath.Join(d.path, MetaFile)
	b, err := d.readText(MetaFile)
	if err != nil {
		return err
	}
	if b != nil {
		if d.meta, err = ParseMeta(b); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		if err := d.meta.agree(want, path); err != nil || !d.meta.Directory.IsZero() {
			return err
		}
	} else if err := d.checkNew(); err != nil {
		return err
	} else if d.meta, err = want.meta(random); err != nil {
		return err
	}
	if d.meta.Directory, err = model.NewUUID(random); err != nil {
		return err
	}
	if err := vfs.WriteFile(d.fs, path, d.meta.Format()); err != nil {
		return fmt.Errorf("datadir: %w", err)
	}
	return nil
}

// checkNew refuses a directory that is none of a new cluster: a metadata log without meta.properties had one that was lost,
// and under a new cluster id its clients would take it for another cluster.
func (d *Dir) checkNew() error {
	used, err := exists(d.fs, d.LogPath(MetadataLog))
	switch {
	case err != nil:
		return fmt.Errorf("datadir: %w", err)
	case used:
		return fmt.Errorf("datadir: %s has a metadata log and no %s: restore that from a backup", d.path, MetaFile)
	}
	return nil
}

func (m Meta) agree(want Identity, path string) error {
	if want.Node != model.NoNode && want.Node != m.Node {
		return fmt.Errorf("%w node: %s has node.id %d, the configuration %d: set node.id to %d, or take another directory",
			ErrIdentity, path, m.Node, want.Node, m.Node)
	}
	if want.Cluster != "" && want.Cluster != m.Cluster {
		return fmt.Errorf("%w cluster: %s has cluster.id %s, the directory of the metadata log has %s: take it out of log.dirs",
			ErrIdentity, path, m.Cluster, want.Cluster)
	}
	return nil
}

// meta is the identity of a new directory, its own id excepted.
func (want Identity) meta(random io.Reader) (Meta, error) {
	m := Meta{Node: want.Node, Cluster: want.Cluster}
	if m.Node == model.NoNode {
		m.Node = want.DefaultNode
	}
	if m.Cluster == "" {
		id, err := model.NewUUID(random)
		if err != nil {
			return m, err
		}
		m.Cluster = id.String()
	}
	return m, nil
}
