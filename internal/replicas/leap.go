package replicas

import "time"

// watchClock looks whether the clock leapt: each second, for the keeper.
func (d *disk) watchClock(now time.Time) {
	if by := d.leap.Look(now); by > 0 {
		d.owner.opts.Log.Warn("clock was set ahead: retention by time goes by the old one for an hour, and so does the expiry of offsets; if it is wrong now, set it right",
			"dir", d.dir.Path(), "by", by)
	}
}
