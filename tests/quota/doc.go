// Package quota measures quotas from outside: a client with a quota gets what it is allowed, and others do not notice. It also
// asks Kafka's own classes how long they would make a client wait.
package quota
