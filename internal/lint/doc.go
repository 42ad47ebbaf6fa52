// Package lint holds the rules of the house that a program can check: which
// package may import which, what machines must not touch, what has to be
// documented. Its test reads every Go file of the root module and fails with a
// line per finding.
//
// It knows syntax only, no types: a rule that needs more belongs in a vet
// analyzer. It must never be imported.
package lint
