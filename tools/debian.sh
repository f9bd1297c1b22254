#!/bin/sh
# Makes sure that `ip` and `nft` are there, which the fault suite needs for namespaces. Says nothing
# and changes nothing where they are; without root, or without apt-get, it says why it cannot help.
set -eu
PATH=$PATH:/usr/sbin:/sbin
missing=
command -v ip >/dev/null || missing="$missing iproute2"
command -v nft >/dev/null || missing="$missing nftables"
[ -z "$missing" ] && exit 0
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "missing:$missing; mend it with: sudo apt-get install$missing" >&2
    exit 1
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
# shellcheck disable=SC2086 # names of packages, one word each
apt-get install -y -qq --no-install-recommends $missing >/dev/null
