#!/usr/bin/env bash
# Sets twlab up: the distribution's packages, the virtual environment, the lab kernel. Does only what is missing.
#
#   setup/install.sh [lab|atlas|test]    atlas: also the programs of `twlab atlas`; test: those, and what the tests need
#
# PYTHON names the interpreter of the virtual environment (3.11 or later; default /usr/bin/python3).
# How it works: a stamp in the virtual environment holds a digest of everything that set-up depends on, and it is written last.
# Where it fits there is nothing to do; where it does not, every step looks for itself whether it is needed. So after
# an interrupted set-up the next one goes on from there.
# Exit status: 0 ready; 2 wrong usage; 3 this machine lacks something; 130 interrupted.
set -euo pipefail

PATH=$PATH:/usr/sbin:/sbin
PYTHON=${PYTHON:-/usr/bin/python3}
readonly LEVEL=${1:-lab}
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
readonly ROOT PYTHON VENV=$ROOT/.venv STAMP=$ROOT/.venv/setup.stamp LOG=$ROOT/build/setup.log PACKAGES=$ROOT/setup/packages.txt
# Debian's package, or package:service where the service has another name.
readonly SERVERS=(haproxy nginx squid apache2 apache2:apache-htcacheclean varnish varnish:varnishncsa lighttpd trafficserver caddy h2o
    nghttp2-proxy:nghttpx tinyproxy privoxy stunnel4 sslh hitch dante-server:danted microsocks pgbouncer
    vinyl-cache vinyl-cache:vinylncsa)
# What a newer distribution calls a package of packages.txt; its programs are as they were.
declare -rA RENAMED=([varnish]=vinyl-cache)
readonly POLICY=${POLICY_RC_D:-/usr/sbin/policy-rc.d} OURS="put here by the set-up of twlab"
HELD=()
ABSENT=()
FETCHED=0
declare -A CALLED=()
as_root=()

say() { printf 'setup: %s\n' "$*" >&2; }

# fail STATUS MESSAGE [REMEDY]
fail() {
    say "$2"
    [[ -z ${3:-} ]] || printf '  remedy: %s\n' "$3" >&2
    exit "$1"
}

# logged DESCRIPTION COMMAND...: says what is done, keeps the command's output for the case that it fails.
logged() {
    say "$1"
    shift
    printf '\n$ %s\n' "$*" >>"$LOG"
    "$@" >>"$LOG" 2>&1
}

on_x86() { [[ $(uname -m) == x86_64 ]]; }

# digest LEVEL: changes whenever set-up has something to do.
digest() {
    {
        printf '%s\n' "$1" "$ROOT" "$(readlink -f "$PYTHON")" "$(stat -Lc %s "$PYTHON" 2>/dev/null)"
        cd "$ROOT" && cat pyproject.toml setup/packages.txt setup/install.sh
        find twlab/engines/kernel twlab/atlas/programs/go_client.go twlab/stacks/gvisor.go -type f -not -name '*.pyc' -print0 2>/dev/null |
            LC_ALL=C sort -z | xargs -0r cat
    } | sha256sum | cut -d' ' -f1
}

# The stamp's lines: a digest, then the lab kernel's path. A set-up for the tests serves the labs too.
is_ready() {
    local stamped kernel
    [[ -x $VENV/bin/python ]] && { read -r stamped && read -r kernel; } 2>/dev/null <"$STAMP" || return 1
    [[ $kernel == none || -x $kernel ]] || return 1
    [[ $stamped == "$(digest "$LEVEL")" || $stamped == "$(digest test)" ]]
}

has_header() { compgen -G "/usr/include/$1" || compgen -G "/usr/include/*/$1" || compgen -G "/usr/local/include/$1"; }

has_library() { [[ $(ldconfig -p) == *"$1"* ]]; }

# Prints the lines of packages.txt that are wanted here and missing.
missing_packages() {
    local section='' package probe reason
    while IFS='|' read -r package probe reason; do
        package=${package%"${package##*[![:space:]]}"}
        case $package in
            '' | '#'*) continue ;;
            '['*) section=$package && continue ;;
        esac
        [[ $section != '[test]' || $LEVEL == test ]] || continue
        [[ $section != '[atlas]' || $LEVEL != lab ]] || continue
        [[ $section != '[guest]' ]] || on_x86 || continue
        [[ " ${ABSENT[*]} " != *" $package "* ]] || continue
        (eval "$probe") </dev/null >/dev/null 2>&1 || printf '%-28s%s\n' "${CALLED[$package]:-$package}" "${reason# }"
    done <"$PACKAGES"
}

install_packages() {
    local missing names
    missing=$(missing_packages)
    [[ -n $missing ]] || return 0
    mapfile -t names < <(cut -d' ' -f1 <<<"$missing")
    if ((EUID != 0)) && command -v sudo >/dev/null; then
        as_root=(sudo)
        [[ -t 0 ]] || as_root+=(-n) # no one is there to type a password
    fi
    if ! command -v apt-get >/dev/null; then
        fail 3 "this machine lacks (by the names of Debian's packages):
$missing" "install what your distribution calls these; apt-get, which would do it here, is not there"
    fi
    if ((EUID != 0)) && { ((${#as_root[@]} == 0)) || ! "${as_root[@]}" true; }; then
        fail 3 "this machine lacks, and this user may not install:
$missing" "as root: apt-get install --no-install-recommends ${names[*]}"
    fi
    find_absent "${names[@]}"
    ((${#ABSENT[@]} == 0)) || say "this distribution does not have: ${ABSENT[*]}; what needs them says so"
    mapfile -t names < <(missing_packages | cut -d' ' -f1)
    if ((${#names[@]})); then
        hold_services "${names[@]}"
        apt_install "${names[@]}"
        let_services_go
    fi
    missing=$(missing_packages)
    [[ -z $missing ]] || fail 3 "these are installed and yet do not work:
$missing" "see packages.txt in $ROOT/setup for how each is looked for, and $LOG"
}

# hold_services PACKAGE...: the servers among them are for labs, which start them in namespaces. As services of this machine they
# shall not start, neither when they are installed (policy-rc.d, which is asked first) nor at the next boot. One that was here before is
# not among them, and stays as it is; so does a policy-rc.d of the administrator's, who then decides.
hold_services() {
    local name server
    for name; do
        for server in "${SERVERS[@]}"; do
            [[ ${server%%:*} != "$name" ]] || HELD+=("${server##*:}")
        done
    done
    ((${#HELD[@]})) || return 0
    trap let_services_go EXIT
    if [[ ! -e $POLICY ]] || grep -qs "$OURS" "$POLICY"; then
        # Past the end of this process, should it be killed, the policy allows everything again.
        "${as_root[@]}" tee "$POLICY" >/dev/null <<EOF
#!/bin/sh
# $OURS, process $$, while it installs: ${HELD[*]} shall not start.
[ -d /proc/$$ ] || exit 0
case "\$1" in $(printf '%s | %s.service | ' "${HELD[@]}")none) exit 101 ;; esac
EOF
        "${as_root[@]}" chmod 755 "$POLICY"
    fi
}

# What hold_services began is ended, however set-up ends.
let_services_go() {
    local name
    for name in "${HELD[@]}"; do
        # Not yet installed, where it was interrupted before: nothing to switch off.
        "${as_root[@]}" update-rc.d "$name" disable >>"$LOG" 2>&1 || true
        # One without a script in /etc/init.d, which update-rc.d does not know.
        "${as_root[@]}" env DPKG_MAINTSCRIPT_PACKAGE="$name" deb-systemd-helper disable "$name.service" >>"$LOG" 2>&1 || true
    done
    HELD=()
    ! grep -qs "$OURS" "$POLICY" || "${as_root[@]}" rm -f "$POLICY"
}

# apt COMMAND...: this machine's apt-get, which asks nothing. A name is that name: it would take linux-source-6.1 for an expression that
# linux-source-6.12 matches.
apt() {
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive LC_ALL=C \
        apt-get -q -y -o DPkg::Lock::Timeout=300 -o APT::Cmd::Pattern-Only=true "$@"
}

# A fresh list of packages, once in a set-up.
fetch_list() {
    ((FETCHED)) || logged "fetching the list of packages" apt update || true
    FETCHED=1
}

# find_absent PACKAGE...: notes those that this distribution does not have: what they are called there, or, as Debian 13 has no h2o,
# that a lab does without.
find_absent() {
    local said name simulated=(apt install --no-install-recommends --simulate "$@")
    ! "${simulated[@]}" >>"$LOG" 2>&1 || return 0
    fetch_list
    ! said=$("${simulated[@]}" 2>&1) || return 0
    while read -r name; do
        CALLED[$name]=${RENAMED[$name]:-$name}
        grep -q "^$name " < <(sed '1,/^\[lab\]/d; /^\[guest\]/,$d' "$PACKAGES") || ABSENT+=("$name")
    done < <(sed -nE "s/^E: (Unable to locate package |Package ')([^' ]+).*/\2/p" <<<"$said")
}

# apt_install PACKAGE...: one apt-get run; with a fresh package list only if the present one does not do.
apt_install() {
    "${as_root[@]}" dpkg --configure -a >>"$LOG" 2>&1 || true # an earlier run may have been interrupted half-way
    logged "installing with ${as_root[*]:+${as_root[*]} }apt-get: $*" apt install --no-install-recommends "$@" && return
    fetch_list
    logged "installing again" apt install --no-install-recommends "$@" ||
        fail 3 "apt-get could not install: $*" "see $LOG; then: apt-get install --no-install-recommends $*"
}

make_venv() {
    local extras='[web]'
    [[ $LEVEL == lab ]] || extras="[web,$LEVEL]"
    "$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null ||
        fail 3 "$PYTHON is not Python 3.11 or later" "name one that is: make PYTHON=/path/to/python3 $LEVEL"
    # One that was moved, half made, or made by another Python is made anew.
    if ! [[ $(readlink -f "$VENV/bin/python") == "$(readlink -f "$PYTHON")" ]] || ! grep -qsF "$VENV" "$VENV/bin/activate" ||
        ! "$VENV/bin/python" -m pip --version >/dev/null 2>&1; then
        logged "making the virtual environment .venv with $PYTHON" "$PYTHON" -m venv --clear "$VENV" ||
            fail 3 "the virtual environment could not be made" "see $LOG"
    fi
    logged "installing twlab and the Python packages it needs" "$VENV/bin/python" -m pip install --no-input -e "$ROOT$extras" ||
        fail 3 "pip could not install what pyproject.toml asks for: $(grep -a '^ERROR' "$LOG" | tail -n 1)" "see $LOG"
}

# The atlas's client with Go's net/http, of Go's own library only.
build_go_client() {
    [[ $LEVEL != lab ]] || return 0
    logged "building the client in Go" env GO111MODULE=off GOCACHE="$ROOT/build/go" GOFLAGS= CGO_ENABLED=0 \
        go build -o "$VENV/bin/twlab-go-client" "$ROOT/twlab/atlas/programs/go_client.go" ||
        fail 3 "the atlas's client in Go could not be built" "see $LOG"
}

# Prints the path of the lab kernel; none where the processor is another.
build_kernel() {
    if ! on_x86; then
        say "the lab kernel is for x86-64, and this processor is $(uname -m): labs run on the host engine, on this machine's own kernel"
        echo none
        return
    fi
    say "the lab kernel, of the newest source that can be had: where it is not there yet, about four minutes on two cores"
    "$VENV/bin/twlab" kernel build | tail -n 1
}

main() {
    [[ $LEVEL =~ ^(lab|atlas|test)$ ]] || fail 2 "there is no set-up called $LEVEL" "setup/install.sh [lab|atlas|test]"
    is_ready && return
    local kernel
    [[ -w $ROOT ]] || fail 3 "twlab is not set up in $ROOT, and this user cannot write there" "have its owner run: make $LEVEL"
    trap 'say "interrupted; the next run goes on from here"; exit 130' INT TERM
    mkdir -p "$ROOT/build"
    exec 9>"$ROOT/build/setup.lock"
    flock 9 # two set-ups at once: the second waits, and finds nothing left to do
    ! is_ready || return 0
    : >"$LOG"
    rm -f "$STAMP"
    install_packages
    make_venv
    build_go_client
    # The lab kernel's guest runs these modules and cannot write: what is not compiled here, each boot would compile.
    "$VENV/bin/python" -m compileall -q "$ROOT/twlab" "$ROOT/topologies" >>"$LOG" 2>&1 || true
    # Without it set-up is of use, too: the few arms that need it say so.
    logged "compiling the program around gVisor's TCP stack" "$VENV/bin/python" -c 'from twlab.stacks import gvisor; gvisor.main()' ||
        say "that failed, see $LOG"
    kernel=$(build_kernel)
    printf '%s\n' "$(digest "$LEVEL")" "$kernel" >"$STAMP.new"
    mv "$STAMP.new" "$STAMP"
    say "ready"
}

main
