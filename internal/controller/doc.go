// Package controller decides about the cluster: an image and a command in,
// metadata records out. It never knows how records are replicated, and is pure:
// identifiers come from the source of randomness it is given.
//
// Messages of refusals are Kafka's, because tools show and match them.
package controller
