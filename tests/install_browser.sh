#!/bin/sh
# A browser for the tests: an installed one, else the system's, else Playwright's own.
set -eu

for name in chromium chromium-browser google-chrome google-chrome-stable; do
    if command -v "$name" >/dev/null; then
        exit 0
    fi
done
if [ "$(id -u)" = 0 ] && [ -f /etc/debian_version ]; then
    echo "Installing chromium with apt-get."
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium >/dev/null
else
    "$1" -m playwright install chromium
fi
