#!/bin/sh
# What a broker does here, beside what this machine can do at best in the same
# minutes: docs/performance.md explains the figures.
#
#   tools/bench.sh [BYTES]    BYTES: to move in each step, by default 1e9
set -eu
cd "$(dirname "$0")/.."
bytes=${1:-1e9}
dir=$(mktemp -d ./barnabas-bench-XXXXXX)
port=29644
pid=
trap '[ -z "$pid" ] || kill "$pid"; wait; rm -rf "$dir"' EXIT
trap 'exit 1' INT TERM

./barnabas serve --data-dir "$dir/data" --listen 127.0.0.1:$port --http off >"$dir/out" 2>"$dir/log" &
pid=$!
until grep -q ready "$dir/out"; do
	kill -0 $pid 2>/dev/null || { cat "$dir/log" >&2; pid=; exit 1; }
	sleep 0.05
done

# value KEY WHAT FILE: of the first JSON line that has WHAT.
value() { grep -F "$2" "$3" | sed -n "1s/.*\"$1\":\([0-9.e+-]*\).*/\1/p"; }

ratio() { awk -v a="$1" -v b="$2" -v what="$3" 'BEGIN { if (b > 0) printf "    %.2f × %s\n", a / b, what }'; }

raw() { # raw ARGUMENTS…
	./barnabas bench raw --dir "$dir" --bytes "$bytes" --json "$@" >"$dir/raw"
	floor_produce=$(value cpu_seconds_per_gb 'produce floor' "$dir/raw")
	floor_fetch=$(value cpu_seconds_per_gb 'fetch floor: sendfile' "$dir/raw")
}

ours() { # ours COMMAND ARGUMENTS…
	command=$1
	shift
	./barnabas bench "$command" -b 127.0.0.1:$port --pid $pid --bytes "$bytes" --json "$@" >"$dir/ours"
	awk -F'[:,}]' '{
		for (i = 1; i < NF; i++) { gsub(/[{"]/, "", $i); v[$i] = $(i + 1) }
		printf "%7.0f MB/s  %9.0f records/s  %6.2f CPU-s/GB  ", v["mb_per_second"], v["records"] / v["seconds"], v["broker_cpu_seconds_per_gb"]
	}' "$dir/ours"
	echo "$command $*"
	case $command in
	produce) ratio "$(value broker_cpu_seconds_per_gb produce "$dir/ours")" "$floor_produce" 'the CPU of receiving, CRC and writing alone' ;;
	consume) ratio "$(value broker_cpu_seconds_per_gb consume "$dir/ours")" "$floor_fetch" 'the CPU of sendfile alone' ;;
	esac
}

raw
for partitions in 1 64; do
	for size in 1024 10240 100; do
		ours produce --size $size --partitions $partitions -c durability=os
	done
done
ours consume
ours consume --partitions 64

# Durable: one batch to each of 16 files, then a sync of all.
./barnabas bench raw --dir "$dir" --bytes "$bytes" --fsync --batch 16384 --partitions 16 --json >"$dir/raw"
ours produce --batch 16384 --partitions 16 --connections 16 -c durability=fsync >"$dir/line"
head -1 "$dir/line"
ratio "$(value mb_per_second produce "$dir/ours")" "$(value mb_per_second 'one syncfs' "$dir/raw")" 'the MB/s of writing and syncing alone'

./barnabas bench latency -b 127.0.0.1:$port -c durability=fsync
