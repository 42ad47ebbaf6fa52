// Package simulation runs whole brokers in virtual time, over in-memory
// connections and a memory disk, crashes them, and holds what comes back
// against a model of what was promised. It is for tests; nothing imports it.
package simulation
