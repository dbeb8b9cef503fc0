#!/bin/sh
# Have what the tests need beside pip packages: a Chromium and Tesseract, installed or from Debian;
# with POSTGRESQL_TESTS=required a PostgreSQL server, too.
set -u
packages=""
found=""
for name in chromium chromium-browser google-chrome; do
    command -v "$name" >/dev/null 2>&1 && found=yes
done
[ -n "$found" ] || packages="chromium"
command -v tesseract >/dev/null 2>&1 || packages="$packages tesseract-ocr"
if [ "${POSTGRESQL_TESTS:-}" = required ] && ! ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1; then
    command -v initdb >/dev/null 2>&1 || packages="$packages postgresql"
fi
# Watches where the processes connect; without it that part of one test is skipped.
if [ "${POSTGRESQL_TESTS:-}" = required ] && ! command -v strace >/dev/null 2>&1; then
    packages="$packages strace"
fi
[ -n "$packages" ] || exit 0
if command -v apt-get >/dev/null 2>&1; then
    echo "Installing for the tests: $packages …"
    sudo=""
    [ "$(id -u)" -eq 0 ] || sudo="sudo"
    # shellcheck disable=SC2086
    $sudo apt-get update -qq && $sudo apt-get install -y -qq --no-install-recommends $packages >/dev/null && exit 0
fi
echo "The tests need these packages:$packages. Install them and run make test again."
exit 1
