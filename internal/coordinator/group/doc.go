// Package group is the machine of Kafka's group coordinator: it decides who is
// in a group, who gets which partitions, and how far each group has read. It
// knows one partition of __consumer_offsets, as records in and records out. It
// never knows logs, sockets, clocks or who may do what.
package group
