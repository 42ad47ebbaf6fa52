package api

// Loggers are the levels of what a broker logs, which clients see and change
// as the BROKER_LOGGER resource (KIP-412). It may be called by many at once.
type Loggers interface {
	// Levels returns the level of every logger by its name, in Kafka's words:
	// FATAL, ERROR, WARN, INFO, DEBUG or TRACE. One of them is RootLogger.
	Levels() map[string]string
	// Set changes the level of one logger at once and until the process ends.
	// An empty level makes the logger follow the root again. The name is one that
	// Levels knows and the level is one of Kafka's words, or the error tells.
	Set(name, level string) error
}

// RootLogger is the logger that all others follow unless they have a level of
// their own.
const RootLogger = "root"
