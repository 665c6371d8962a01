#!/bin/sh
# Installs the servers that tests use from the system's packages, where that is possible; tests of
# a server that cannot be had are skipped by name.
set -eu

have_postgres() {
    command -v initdb >/dev/null 2>&1 || ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1
}

if have_postgres; then
    exit 0
fi
if ! command -v apt-get >/dev/null 2>&1; then
    echo "PostgreSQL is not installed, and this system has no apt-get: its tests will be skipped"
    exit 0
fi
run=""
if [ "$(id -u)" -ne 0 ]; then
    if ! sudo -n true 2>/dev/null; then
        echo "PostgreSQL is not installed; as root it would be: its tests will be skipped"
        exit 0
    fi
    run="sudo"
fi
export DEBIAN_FRONTEND=noninteractive
$run apt-get install --yes --no-install-recommends postgresql >/dev/null ||
    { $run apt-get update >/dev/null && $run apt-get install --yes --no-install-recommends postgresql >/dev/null; } ||
    echo "PostgreSQL could not be installed: its tests will be skipped"
