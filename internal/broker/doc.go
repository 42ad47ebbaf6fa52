// Package broker puts a node together: who gets which door, in which order
// things start and stop. It knows no business.
package broker
