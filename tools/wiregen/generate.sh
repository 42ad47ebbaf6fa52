#!/bin/sh
# Writes wire/*_gen.go anew from Apache Kafka's jars. Needs Java 17 and Maven.
#
#   generate.sh [OUT]    OUT: the directory to write to, by default wire
#   generate.sh -jars    only fetch the jars, print their directory
#
# Jars are kept in $BARNABAS_KAFKA_JARS, by default ~/.cache/barnabas/kafka-4.4.0.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
version=$(sed -n 's:.*<kafka.version>\(.*\)</kafka.version>.*:\1:p' "$here/pom.xml")
jars=${BARNABAS_KAFKA_JARS:-${XDG_CACHE_HOME:-$HOME/.cache}/barnabas/kafka-$version}

need() {
	command -v "$1" >/dev/null || {
		echo "generate.sh: no $1 here. The wire package is generated from Apache Kafka's jars, which Maven fetches and Java reads; install both, or leave the committed files as they are." >&2
		exit 1
	}
}

need java
if [ ! -e "$jars/.complete" ]; then
	need mvn
	mkdir -p "$jars"
	mvn -q -B -f "$here/pom.xml" dependency:copy-dependencies -DoutputDirectory="$jars" >&2
	touch "$jars/.complete"
fi
if [ "${1:-}" = -jars ]; then
	echo "$jars"
	exit 0
fi
out=${1:-$here/../../wire}
out=$(cd "$out" && pwd)
errors=$(mktemp)
trap 'rm -f "$errors" "$errors.log"' EXIT
java -cp "$jars/*" "$here/Errors.java" >"$errors" 2>"$errors.log" || { cat "$errors.log" >&2; exit 1; }
cd "$here/.." && go run ./wiregen -jars "$jars" -errors "$errors" -out "$out"
