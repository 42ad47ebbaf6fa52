package wire

import "fmt"

// ErrorCode is what an answer says went wrong. As an error its text is Kafka's
// name of it.
type ErrorCode int16

// Error returns Kafka's name, such as "UNKNOWN_TOPIC_OR_PARTITION".
func (e ErrorCode) Error() string {
	if name, _, _ := e.describe(); name != "" {
		return name
	}
	return fmt.Sprintf("ERROR_CODE_%d", int16(e))
}

// Message returns the sentence that Kafka gives with the code, "" if it has
// none.
func (e ErrorCode) Message() string {
	_, message, _ := e.describe()
	return message
}

// Retriable reports whether the same request may succeed later, as Kafka's
// client classes have it.
func (e ErrorCode) Retriable() bool {
	_, _, retriable := e.describe()
	return retriable
}
