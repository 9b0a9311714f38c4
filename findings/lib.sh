# shellcheck shell=bash
# Shared by the findings: a temporary folder, pinned packages, namespaces, a comparison.
#
#   pypi NAME==VERSION ...   installs into the folder's site/, which python3 then reads
#   npm  NAME@VERSION ...    installs into the folder's node_modules
#   deb  NAME=VERSION ...    downloads Debian packages and unpacks them under unpacked/; nothing is installed
#   needs PROGRAM ...        ends with status 3 if a program is missing
#   root                     ends with status 3 for other users
#   alone COMMAND ...        runs the command in new network, mount and process namespaces, with loopback up
#   gateway                  writes gateway.sh: run it inside `alone`; it makes client -- gate -- server; and
#                            server.py, which answers each connection to 10.2.0.2:80 with its address and port
#   expect                   compares the file `seen` with standard input, and fails if they differ
#
# The folder is the working directory, and is removed at the end. The kernel ends what ran in the namespaces.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
trap 'exit 130' INT TERM HUP
cd "$folder"
export LC_ALL=C NODE_PATH=$folder/node_modules

needs() {
    local program
    for program in "$@"; do
        command -v "$program" >/dev/null || {
            echo "$(basename "$0"): $program is missing: install it, then run this again" >&2
            exit 3
        }
    done
}

root() {
    [ "$(id -u)" = 0 ] || {
        echo "$(basename "$0"): a program in it sets its groups: run it as root" >&2
        exit 3
    }
}

pypi() {
    needs python3
    python3 -m pip install --quiet --disable-pip-version-check --no-warn-conflicts --no-compile --target site "$@" \
        2>pip.log || { cat pip.log >&2; exit 3; }
    export PYTHONPATH=$folder/site
    echo "$* $(python3 --version)"
}

npm() {
    needs node npm
    command npm install --silent --no-audit --no-fund --prefix . "$@" || exit 3
    echo "$* node $(node --version)"
}

deb() {
    needs apt-get dpkg
    chmod 755 .
    apt-get download --quiet=2 "$@" 2>apt.log || { cat apt.log >&2; exit 3; }
    local package
    for package in ./*.deb; do dpkg -x "$package" unpacked; done
    rm -f ./*.deb
    export PATH=$folder/unpacked/usr/bin:$folder/unpacked/usr/sbin:$folder/unpacked/bin:$folder/unpacked/sbin:$PATH
    local triplet
    triplet=$(uname -m)-linux-gnu
    export LD_LIBRARY_PATH=$folder/unpacked/usr/lib/$triplet:$folder/unpacked/lib/$triplet
    echo "$*"
}

alone() {
    needs unshare ip timeout
    local user=()
    [ "$(id -u)" = 0 ] || user=(--user --map-root-user)
    # shellcheck disable=SC2016  # "$@" is for the shell inside
    timeout --signal KILL 120 unshare "${user[@]}" --net --mount --pid --fork --kill-child --mount-proc \
        sh -c 'mount -t tmpfs none /run && mkdir /run/netns && ip link set lo up && exec "$@"' sh "$@"
}

gateway() {
    cat >gateway.sh <<'SH'
set -eu
for name in client gate server; do ip netns add $name; ip -n $name link set lo up; done
ip -n gate link add inside type veth peer name eth0 netns client
ip -n gate link add outside type veth peer name eth0 netns server
ip -n client addr add 10.1.0.2/24 dev eth0
ip -n server addr add 10.2.0.2/24 dev eth0
ip -n gate addr add 10.1.0.1/24 dev inside
ip -n gate addr add 10.2.0.1/24 dev outside
for link in inside outside; do ip -n gate link set $link up; done
for name in client server; do ip -n $name link set eth0 up; done
ip -n client route add default via 10.1.0.1
ip -n server route add default via 10.2.0.1
ip netns exec gate sysctl -qw net.ipv4.ip_forward=1
SH
    cat >server.py <<'PY'
import socket

with socket.create_server(("10.2.0.2", 80), backlog=1000) as listener:
    kept = []
    while True:
        connection, (address, port) = listener.accept()
        connection.sendall(f"{address} {port}".encode())
        kept.append(connection)
PY
}

expect() {
    echo "Linux $(uname -r)"
    cat seen
    if ! diff --unified=0 - seen >differs; then
        echo "$(basename "$0"): this is no longer what was seen:" >&2
        tail -n +3 differs >&2
        exit 1
    fi
    echo "$(basename "$0"): still so"
}
