// Package crash kills a loaded broker again and again (kill -9) and looks what
// is left: every acknowledged record has to be there, in order, and once where
// the producer is idempotent. BARNABAS_ROUNDS says how often; CI takes 50.
package crash
