package zmtp

// CheckEndpoint says what is wrong with an endpoint, before it is used:
// [ErrEndpoint].
func CheckEndpoint(endpoint string) error {
	_, _, err := splitEndpoint(endpoint)
	return err
}
