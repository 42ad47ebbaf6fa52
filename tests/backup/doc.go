// Package backup copies the data directory of a broker that is being written
// to, with cp and nothing else, and opens the copy: what docs/operating/backup.md
// promises.
package backup
