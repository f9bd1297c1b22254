#!/bin/sh
# Makes sure that there is a C compiler, which the tests of power cuts and I/O errors need.
set -eu
for compiler in gcc cc clang; do
    command -v "$compiler" >/dev/null && exit 0
done
if command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
    apt-get update -qq && apt-get install -y -qq gcc libc6-dev >/dev/null
else
    echo "There is no C compiler. Mend it with: sudo apt-get install gcc libc6-dev" >&2
    exit 1
fi
