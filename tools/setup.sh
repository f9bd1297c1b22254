#!/bin/sh
# Makes the virtual environment $VENV with storebus and its development tools in it.
# Safe to run again: it starts over only when the environment is broken.
set -eu
PYTHON=${PYTHON:-python3}
VENV=${VENV:-.venv}

"$PYTHON" - <<'PY' || exit 1
import sys
if sys.version_info < (3, 11):
    sys.exit(f"storebus needs Python 3.11 or newer, this is {sys.version.split()[0]}; "
             "name another one: make PYTHON=python3.12 ...")
PY

# Debian keeps venv's pip in a package of its own, which a fresh machine does not have.
if ! "$PYTHON" -c 'import ensurepip' 2>/dev/null; then
    version=$("$PYTHON" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    if command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
        apt-get update -qq && apt-get install -y -qq "python${version}-venv" >/dev/null
    else
        echo "Python's venv module is not complete. Mend it with: sudo apt-get install python${version}-venv" >&2
        exit 1
    fi
fi

[ -x "$VENV/bin/python" ] && "$VENV/bin/python" -c 'import pip' 2>/dev/null || "$PYTHON" -m venv --clear "$VENV"
echo "installing storebus into $VENV ..." >&2
"$VENV/bin/python" -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
# The tests of power cuts and I/O errors need one; without it they say so.
sh "$(dirname "$0")/compiler.sh" || true
# A script that raises one alert should not compile what it imports.
"$VENV/bin/python" -m compileall -q broker buskit buswire hqconsole storeagent
touch "$VENV/.ready"
