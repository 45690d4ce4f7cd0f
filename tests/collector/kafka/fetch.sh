#!/usr/bin/env bash
# Prints the directory of the jars that pom.xml names, which are fetched once and kept outside of the tree, by its hash.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
cache="${XDG_CACHE_HOME:-$HOME/.cache}/otel-usage"
jars="$cache/kafka-$(sha256sum "$here/pom.xml" | cut -c1-16)"

if [ ! -d "$jars" ]; then
  mkdir -p "$cache"
  fetched="$(mktemp -d "$cache/kafka-XXXXXX.part")"
  trap 'rm -rf "$fetched"' EXIT
  mvn --quiet --batch-mode --file "$here/pom.xml" dependency:copy-dependencies \
    -DoutputDirectory="$fetched" -DincludeScope=runtime >&2
  # Whole or not at all, also where two do this at once: the second one's is thrown away.
  mv --no-target-directory "$fetched" "$jars" 2> /dev/null || [ -d "$jars" ]
fi
echo "$jars"
