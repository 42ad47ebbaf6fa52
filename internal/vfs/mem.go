package vfs

import (
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
)

const (
	pageSize   = 4096
	sectorSize = 512
)

// Mem is a file system in memory that remembers what was synced.
type Mem struct {
	mu struct {
		sync.Mutex
		root  *node
		locks map[string]bool
		// used and capacity are in bytes of file content; capacity 0 means no
		// limit.
		used, capacity int64
		// now is the clock of modification times, in milliseconds since 1970.
		now int64
	}
}

// node is a file or a directory, as an inode is: names point at it, and it
// lives as long as a name or an open file does.
type node struct {
	// data is what readers see; synced is what survives every crash. Only the
	// pages in dirty may differ. Of files only.
	data, synced []byte
	dirty        map[int]struct{}
	modTime      int64

	// names is what readers see; durable is what survives every crash; pending
	// turns durable into names. Of directories only.
	names, durable map[string]*node
	pending        []dirOp
}

// dirOp is one change of a directory. A rename within a directory is one
// operation with two changes, a rename between directories one in each.
type dirOp []struct {
	name string
	to   *node // nil: the name goes.
}

func newDir() *node {
	return &node{names: map[string]*node{}, durable: map[string]*node{}}
}

func newFile() *node { return &node{dirty: map[int]struct{}{}} }

func (n *node) isDir() bool { return n.names != nil }

// NewMem returns an empty file system.
func NewMem() *Mem {
	m := &Mem{}
	m.mu.root = newDir()
	m.mu.locks = map[string]bool{}
	return m
}

// SetCapacity limits the bytes of all files together; what would go beyond
// fails with ENOSPC after writing what fits. Zero means no limit.
func (m *Mem) SetCapacity(bytes int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.mu.capacity = bytes
	m.mu.used = m.mu.root.size()
}

// SetTime sets the modification time of later changes, in milliseconds since
// 1970.
func (m *Mem) SetTime(millis int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.mu.now = millis
}

func (n *node) size() int64 {
	total := int64(len(n.data))
	for _, c := range n.names {
		total += c.size()
	}
	return total
}

func split(name string) []string {
	return strings.FieldsFunc(filepath.Clean(name), func(r rune) bool { return r == '/' })
}

func pathError(op, name string, err error) error {
	return &fs.PathError{Op: op, Path: name, Err: err}
}

// find returns the node of a path.
func (m *Mem) findLocked(op, name string) (*node, error) {
	n := m.mu.root
	for _, part := range split(name) {
		if !n.isDir() {
			return nil, pathError(op, name, syscall.ENOTDIR)
		}
		if n = n.names[part]; n == nil {
			return nil, pathError(op, name, fs.ErrNotExist)
		}
	}
	return n, nil
}

// parentLocked returns the directory that holds, or would hold, a path.
func (m *Mem) parentLocked(op, name string) (*node, error) {
	dir, err := m.findLocked(op, filepath.Dir(name))
	if err == nil && !dir.isDir() {
		err = pathError(op, name, syscall.ENOTDIR)
	}
	return dir, err
}

func (n *node) apply(op dirOp) {
	for _, c := range op {
		set(n.names, c.name, c.to)
	}
	n.pending = append(n.pending, op)
}

func set(names map[string]*node, name string, to *node) {
	if to == nil {
		delete(names, name)
	} else {
		names[name] = to
	}
}

func change(name string, to *node) dirOp { return dirOp{{name, to}} }

// Open implements FS.
func (m *Mem) Open(name string) (File, error) { return m.open(name, false) }

// OpenWrite implements FS.
func (m *Mem) OpenWrite(name string) (File, error) { return m.open(name, true) }

func (m *Mem) open(name string, write bool) (File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, err := m.findLocked("open", name)
	if err != nil {
		return nil, err
	}
	if n.isDir() {
		return nil, pathError("open", name, syscall.EISDIR)
	}
	return &memFile{m: m, n: n, name: name, write: write}, nil
}

// Create implements FS.
func (m *Mem) Create(name string) (File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	dir, err := m.parentLocked("create", name)
	if err != nil {
		return nil, err
	}
	n := dir.names[base(name)]
	switch {
	case n == nil:
		n = newFile()
		dir.apply(change(base(name), n))
	case n.isDir():
		return nil, pathError("create", name, syscall.EISDIR)
	default:
		m.resizeLocked(n, 0)
	}
	return &memFile{m: m, n: n, name: name, write: true}, nil
}

// Rename implements FS.
func (m *Mem) Rename(from, to string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	src, err := m.parentLocked("rename", from)
	if err != nil {
		return err
	}
	dst, err := m.parentLocked("rename", to)
	if err != nil {
		return err
	}
	n := src.names[base(from)]
	if n == nil {
		return pathError("rename", from, fs.ErrNotExist)
	}
	if old := dst.names[base(to)]; old != nil {
		if old.isDir() && (!n.isDir() || len(old.names) > 0) {
			return pathError("rename", to, fs.ErrExist)
		}
		m.mu.used -= old.size()
	}
	if src == dst {
		src.apply(append(change(base(from), nil), change(base(to), n)...))
		return nil
	}
	dst.apply(change(base(to), n))
	src.apply(change(base(from), nil))
	return nil
}

// Remove implements FS.
func (m *Mem) Remove(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, err := m.findLocked("remove", name)
	if err != nil {
		return err
	}
	if len(n.names) > 0 {
		return pathError("remove", name, syscall.ENOTEMPTY)
	}
	return m.unlinkLocked(name, n)
}

func (m *Mem) unlinkLocked(name string, n *node) error {
	dir, err := m.parentLocked("remove", name)
	if err != nil {
		return err
	}
	dir.apply(change(base(name), nil))
	m.mu.used -= n.size()
	return nil
}

// RemoveAll implements FS.
func (m *Mem) RemoveAll(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, err := m.findLocked("remove", name)
	if err != nil {
		return nil
	}
	return m.unlinkLocked(name, n)
}

// MkdirAll implements FS.
func (m *Mem) MkdirAll(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.mu.root
	for _, part := range split(name) {
		if !n.isDir() {
			return pathError("mkdir", name, syscall.ENOTDIR)
		}
		if n.names[part] == nil {
			n.apply(change(part, newDir()))
		}
		n = n.names[part]
	}
	return nil
}

// ReadDir implements FS.
func (m *Mem) ReadDir(name string) ([]Info, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, err := m.findLocked("readdir", name)
	if err != nil {
		return nil, err
	}
	if !n.isDir() {
		return nil, pathError("readdir", name, syscall.ENOTDIR)
	}
	infos := make([]Info, 0, len(n.names))
	for _, name := range slices.Sorted(maps.Keys(n.names)) {
		infos = append(infos, Info{Name: name, Dir: n.names[name].isDir()})
	}
	return infos, nil
}

// Stat implements FS.
func (m *Mem) Stat(name string) (Info, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, err := m.findLocked("stat", name)
	if err != nil {
		return Info{}, err
	}
	return Info{Name: base(name), Size: int64(len(n.data)), ModTime: n.modTime, Dir: n.isDir()}, nil
}

// SetModTime implements FS.
func (m *Mem) SetModTime(name string, millis int64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, err := m.findLocked("chtimes", name)
	if err == nil {
		n.modTime = millis
	}
	return err
}

// SyncDir implements FS.
func (m *Mem) SyncDir(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, err := m.findLocked("sync", name)
	if err == nil {
		n.syncDir()
	}
	return err
}

func (n *node) syncDir() {
	n.durable = maps.Clone(n.names)
	n.pending = nil
}

// SyncFS implements FS.
func (m *Mem) SyncFS(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, err := m.findLocked("syncfs", name); err != nil {
		return err
	}
	m.mu.root.syncAll()
	return nil
}

func (n *node) syncAll() {
	if !n.isDir() {
		n.syncData()
		return
	}
	n.syncDir()
	for _, c := range n.names {
		c.syncAll()
	}
}

// Lock implements FS.
func (m *Mem) Lock(name string) (io.Closer, error) {
	f, err := m.Open(name)
	if err != nil {
		f, err = m.Create(name)
	}
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	name = filepath.Clean(name)
	if m.mu.locks[name] {
		return nil, fmt.Errorf("%w: %s", ErrLocked, name)
	}
	m.mu.locks[name] = true
	return memLock{f, m, name}, nil
}

type memLock struct {
	File
	m    *Mem
	name string
}

func (l memLock) Close() error {
	l.m.mu.Lock()
	defer l.m.mu.Unlock()
	delete(l.m.mu.locks, l.name)
	return nil
}

// DiskUsage implements FS. Without a capacity there is 1 TiB.
func (m *Mem) DiskUsage(string) (Usage, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	size := m.mu.capacity
	if size == 0 {
		size = 1 << 40
	}
	return Usage{Free: max(0, size-m.mu.used), Used: m.mu.used, Total: size}, nil
}

// Birth implements FS. There are no copies in memory: a crash clone is the same
// disk.
func (m *Mem) Birth(name string) (uint64, error) {
	if _, err := m.Stat(name); err != nil {
		return 0, err
	}
	return 1, nil
}

// CrashClone returns what a power cut at this moment may leave on the disk:
// all that was synced, and of the rest what rng picks. The receiver stays as it
// is; locks are gone in the clone, and everything in it is synced.
func (m *Mem) CrashClone(rng *rand.Rand) *Mem {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := NewMem()
	c.mu.now = m.mu.now
	// How lucky this crash is: with one probability for all pages and names,
	// crashes that keep or lose nearly everything would never be tried.
	keep := [...]float64{0, 0.1, 0.5, 0.9, 1}[rng.IntN(5)]
	c.mu.root = m.mu.root.crash(rng, keep, map[*node]*node{})
	c.mu.capacity = m.mu.capacity
	c.mu.used = c.mu.root.size()
	return c
}

// crash clones a node; seen holds the clones already made, because after a lost
// part of a rename between directories a file may have two names.
func (n *node) crash(rng *rand.Rand, keep float64, seen map[*node]*node) *node {
	if c := seen[n]; c != nil {
		return c
	}
	if !n.isDir() {
		c := n.crashFile(rng, keep)
		seen[n] = c
		return c
	}
	c := newDir()
	seen[n] = c
	names := n.crashNames(rng, keep)
	for _, name := range slices.Sorted(maps.Keys(names)) {
		c.names[name] = names[name].crash(rng, keep, seen)
	}
	c.syncDir()
	return c
}

// crashNames replays onto the durable names the pending operations that
// survive: when one is lost, so are all later ones that touch a name of it.
func (n *node) crashNames(rng *rand.Rand, keep float64) map[string]*node {
	names := maps.Clone(n.durable)
	lost := map[string]bool{}
	for _, op := range n.pending {
		ok := rng.Float64() < keep
		for _, c := range op {
			ok = ok && !lost[c.name]
		}
		for _, c := range op {
			if ok {
				set(names, c.name, c.to)
			} else {
				lost[c.name] = true
			}
		}
	}
	return names
}

func (n *node) crashFile(rng *rand.Rand, keep float64) *node {
	size := len(n.synced)
	if len(n.dirty) > 0 || len(n.data) != len(n.synced) {
		switch r := rng.Float64(); {
		case r < keep:
			size = len(n.data)
		case r < keep+(1-keep)/2:
			lo, hi := min(len(n.data), len(n.synced)), max(len(n.data), len(n.synced))
			size = lo + rng.IntN(hi-lo+1)
		}
	}
	c := newFile()
	c.modTime = n.modTime
	c.data = make([]byte, size)
	copy(c.data, n.synced)
	for _, page := range slices.Sorted(maps.Keys(n.dirty)) {
		if rng.Float64() < 0.1 { // A torn page.
			for s := page * pageSize; s < (page+1)*pageSize; s += sectorSize {
				if rng.Float64() < keep {
					n.keep(c.data, s, s+sectorSize)
				}
			}
		} else if rng.Float64() < keep {
			n.keep(c.data, page*pageSize, (page+1)*pageSize)
		}
	}
	c.synced = slices.Clone(c.data)
	return c
}

// keep copies what readers see of [from, to) into dst, as far as dst reaches.
func (n *node) keep(dst []byte, from, to int) {
	to = min(to, len(dst))
	if from >= to {
		return
	}
	k := 0
	if from < len(n.data) {
		k = copy(dst[from:to], n.data[from:])
	}
	clear(dst[from+k : to])
}

// KillClone returns what the end of a process at this moment leaves: all of it,
// no more of it synced than before. The receiver stays as it is; locks are gone
// in the clone.
func (m *Mem) KillClone() *Mem {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := NewMem()
	c.mu.now, c.mu.capacity = m.mu.now, m.mu.capacity
	c.mu.root = m.mu.root.clone(map[*node]*node{})
	c.mu.used = c.mu.root.size()
	return c
}

func (n *node) clone(seen map[*node]*node) *node {
	if n == nil {
		return nil
	}
	if c := seen[n]; c != nil {
		return c
	}
	c := &node{modTime: n.modTime}
	seen[n] = c
	if !n.isDir() {
		c.data, c.synced, c.dirty = slices.Clone(n.data), slices.Clone(n.synced), maps.Clone(n.dirty)
		return c
	}
	c.names, c.durable = map[string]*node{}, map[string]*node{}
	for name, to := range n.names {
		c.names[name] = to.clone(seen)
	}
	for name, to := range n.durable {
		c.durable[name] = to.clone(seen)
	}
	for _, op := range n.pending {
		copied := slices.Clone(op)
		for i := range copied {
			copied[i].to = copied[i].to.clone(seen)
		}
		c.pending = append(c.pending, copied)
	}
	return c
}
