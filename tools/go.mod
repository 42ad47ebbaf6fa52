module github.com/barnabas-log/barnabas/tools

go 1.26.0
