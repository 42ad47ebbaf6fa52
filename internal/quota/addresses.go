package quota

// Addresses returns the limits of some addresses, for a [Meter] of
// connections: it charges them as clients without a user.
func Addresses(bounds map[Part]float64) Limits {
	clients := make(map[Entity]float64, len(bounds))
	for p, v := range bounds {
		clients[Entity{Client: p}] = v
	}
	return NewLimits(clients)
}
