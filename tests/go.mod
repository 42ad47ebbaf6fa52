module github.com/barnabas-log/barnabas/tests

go 1.26.0

require (
	github.com/barnabas-log/barnabas v0.0.0
	github.com/twmb/franz-go/pkg/kmsg v1.15.0
)

require (
	github.com/google/go-cmp v0.7.0 // indirect
	github.com/klauspost/compress v1.20.3 // indirect
	github.com/pierrec/lz4/v4 v4.1.33 // indirect
)

replace github.com/barnabas-log/barnabas => ../
