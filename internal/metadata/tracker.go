package metadata

import (
	"fmt"

	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/wire"
)

// Tracker turns the metadata log into images. It is a machine: records in,
// images out.
type Tracker struct {
	image *Image
	open  *builder // Inside a transaction (KIP-868).
}

// NewTracker starts from an image.
func NewTracker(from *Image) *Tracker { return &Tracker{image: from} }

// Image is the last image published.
func (t *Tracker) Image() *Image { return t.image }

// Open reports whether a transaction has begun and not ended. At the start of
// a new leader's epoch such a transaction is void: see Abort.
func (t *Tracker) Open() bool { return t.open != nil }

// Abort throws away the records of an open transaction.
func (t *Tracker) Abort() { t.open = nil }

// Apply takes the records of one batch, the first of which has offset base.
// It returns the delta of what it published, or nil while a transaction is
// open.
func (t *Tracker) Apply(base model.Offset, records []Record) (*Delta, error) {
	b := t.open
	if b == nil {
		b = build(t.image)
	}
	for i, r := range records {
		offset := base + model.Offset(i)
		switch r.Message.(type) {
		case *wire.BeginTransactionRecord:
			if t.open != nil {
				return nil, fmt.Errorf("%w: transaction within a transaction at offset %d", ErrRecord, offset)
			}
			t.open = b
		case *wire.EndTransactionRecord:
			if t.open == nil {
				return nil, fmt.Errorf("%w: end of no transaction at offset %d", ErrRecord, offset)
			}
			t.open = nil
		case *wire.AbortTransactionRecord:
			if t.open == nil {
				return nil, fmt.Errorf("%w: abort of no transaction at offset %d", ErrRecord, offset)
			}
			t.open, b = nil, build(t.image)
		default:
			if err := b.apply(offset, r, offset); err != nil {
				return nil, fmt.Errorf("%w, at offset %d", err, offset)
			}
			continue
		}
		b.end = offset + 1
	}
	if t.open != nil {
		return nil, nil
	}
	t.image = b.Image
	return &b.delta, nil
}

// Skip moves the image over offsets that hold no metadata records, such as the
// control batch that begins an epoch.
func (t *Tracker) Skip(end model.Offset) {
	if t.open != nil {
		t.open.end = end
		return
	}
	i := *t.image
	i.end = end
	t.image = &i
}

// FromSnapshot builds the image that a snapshot's records describe; end is one
// past the last offset that the snapshot contains.
func FromSnapshot(end model.Offset, records []Record) (*Image, error) {
	b := build(Empty())
	for _, r := range records {
		if err := b.apply(end-1, r, model.NoOffset); err != nil {
			return nil, fmt.Errorf("metadata: snapshot %d: %w", end, err)
		}
	}
	b.end = end
	return b.Image, nil
}
