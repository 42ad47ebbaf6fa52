module github.com/barnabas-log/barnabas/tests

go 1.26.0

require (
	github.com/barnabas-log/barnabas v0.0.0
	github.com/twmb/franz-go/pkg/kmsg v1.15.0
)

replace github.com/barnabas-log/barnabas => ../
