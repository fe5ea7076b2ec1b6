#!/bin/sh
# A browser for the tests of the page: from Debian's packages, where they can be had; nothing to do where there is one.
set -eu
for name in chromium chromium-browser google-chrome google-chrome-stable; do
    if command -v "$name" >/dev/null; then
        echo "there is a browser: $(command -v "$name")"
        exit 0
    fi
done
if ! command -v apt-get >/dev/null || [ "$(id -u)" != 0 ]; then
    echo "install Chromium by the means of this system: that takes apt-get and root here (sudo make browser)" >&2
    exit 1
fi
export DEBIAN_FRONTEND=noninteractive
apt-get install --yes --no-install-recommends chromium || { apt-get update && apt-get install --yes --no-install-recommends chromium; }
