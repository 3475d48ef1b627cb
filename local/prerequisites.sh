#!/usr/bin/env bash
# Debian packages that a local cluster and the images need. Does nothing when they are there; apt needs root.
set -euo pipefail
[[ ${CLUSTER:-} == current ]] && exit 0
packages=(containerd runc containernetworking-plugins nftables socat conntrack iproute2 buildah mmdebstrap skopeo)
missing=()
for package in "${packages[@]}"; do
  [[ $(dpkg-query -W -f '${Status}' "$package" 2>/dev/null) == "install ok installed" ]] || missing+=("$package")
done
((${#missing[@]})) || exit 0
if ! command -v apt-get > /dev/null; then
  echo "not installed: ${missing[*]}; install them with your distribution's package manager" >&2
  exit 1
fi
if ((EUID)); then
  echo "not installed: ${missing[*]}; run: sudo apt-get install -y --no-install-recommends ${missing[*]}" >&2
  exit 1
fi
echo "installing: ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq --no-install-recommends "${missing[@]}" > /dev/null
