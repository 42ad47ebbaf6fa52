// Package metrics holds the dashboard and the alert rules of docs/operating against what a running broker shows on /metrics, so
// that no query names a metric or a label that there is not, and drives client metrics (KIP-714) from a client to that page.
package metrics
