#!/bin/sh
# Prints the path of a Python 3.13 that really runs, or nothing: the broker is tested on both sides
# of the changes that 3.12 made to asyncio's servers.
for candidate in python3.13 "$HOME"/.pyenv/versions/3.13*/bin/python3.13; do
    if "$candidate" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 13))' 2>/dev/null; then
        command -v "$candidate"
        exit 0
    fi
done
