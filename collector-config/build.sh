#!/bin/sh
# Builds the Collector of builder.yaml, or of the manifest that is given, unless it is built already. The last line of standard
# output is the path of its binary; all else goes to standard error. It needs Go 1.26 or later, and ten minutes on two cores.
#
#   OTELCOL=$(collector-config/build.sh) && "$OTELCOL" --config collector-config/agent.yaml
#
# --if-built: print the path, or fail where there is nothing to be found.
# OTELCOL_CACHE: where binaries are kept. By default ~/.cache/otel-usage, outside of the source.
set -eu

if_built=
if [ "${1:-}" = --if-built ]; then
  if_built=yes
  shift
fi
manifest=${1:-$(dirname -- "$0")/builder.yaml}
here=$(CDPATH='' cd -- "$(dirname -- "$manifest")" && pwd)
cache=${OTELCOL_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/otel-usage}

if ! command -v go > /dev/null; then
  echo "build.sh needs Go 1.26 or later, which is not installed; OTELCOL names a Collector that is there" >&2
  exit 2
fi

name=$(sed -n 's/^  name: *//p' "$manifest")
version=$(sed -n 's/^  version: *//p' "$manifest")
ours() { # the Go files beside the manifest that it names with a path, which is from there
  sed -n 's/^ *path: *//p' "$manifest" | while read -r path; do find "$here/$path" -type f | LC_ALL=C sort; done
}
key=$({ grep -v '^ *#' "$manifest"; ours | while read -r file; do cat "$file"; done; go env GOVERSION GOOS GOARCH; } |
  cksum | tr ' ' '-')
binary=$cache/otelcol-$key
if [ ! -x "$binary" ]; then
  if [ -n "$if_built" ]; then
    echo "the Collector of $(basename "$manifest") is not built: make collector builds it" >&2
    exit 1
  fi
  mkdir -p "$cache"
  # In a directory of its own: of two that build at once, neither sees the other, and the last to end wins with the same.
  work=$(mktemp -d "$cache/build-XXXXXX")
  trap 'rm -rf "$work"' EXIT
  trap 'exit 130' INT TERM
  echo "build.sh: building $name $version into $cache: some ten minutes" >&2
  sed "s#^\( *path: *\)#\1$here/#" "$manifest" > "$work/manifest.yaml"
  cd "$work" # where the manifest has everything generated
  GOBIN=$work go install "go.opentelemetry.io/collector/cmd/builder@v$version" >&2
  # Without the names of directories here, and without symbols: a third of the size less.
  GOFLAGS="-trimpath -buildvcs=false" ./builder --config manifest.yaml --ldflags '-s -w' >&2
  mv "generated/$name" "$binary"
fi
echo "$binary"
