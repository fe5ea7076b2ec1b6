#!/bin/sh
# Make a virtual environment with the first Python from 3.11 to 3.13 that can, or say what is missing.
set -eu
venv=$1

supported='import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))'
found=
for python in ${PYTHON:-python3.11 python3.12 python3.13 python3}; do
    "$python" -c "$supported" 2>/dev/null || continue
    found=$python
    "$python" -c 'import ensurepip, venv' 2>/dev/null || continue
    rm -rf "$venv"
    exec "$python" -m venv "$venv"
done

if [ -n "$found" ]; then
    echo "$found cannot make virtual environments. On Debian or Ubuntu: apt-get install python3-venv" >&2
else
    echo "No Python from 3.11 to 3.13 was found. Install one (on Debian: apt-get install python3 python3-venv)," >&2
    echo "or name one: make PYTHON=/path/to/python3.12" >&2
fi
exit 1
