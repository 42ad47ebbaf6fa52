// Package hostile throws bad input at a broker while good clients work: broken
// frames, wrong batches, compression bombs, illegal names, connections that
// stall. It holds the broker to what the good clients see: no error, no wait
// above a second; and to what the storm costs: memory, processor time, and what
// is left behind.
package hostile
