#!/usr/bin/env bash
# Tries the project on a fresh Debian: debootstrap into a folder, set-up in there, then make lab (and make test) without network.
#
#   setup/trial/trial.sh [--fast | --guest | --host | --test] [--kernels FOLDER] SUITE FOLDER
#
#   SUITE      bookworm (Debian 12), trixie (13), forky or sid (the newest Python)
#   FOLDER     where the root file system is made, some 5 GB; one that is there already is used again
#   --fast     instead of make lab the tests that need no lab
#   --guest    instead of make lab the tests that need the lab kernel, and the slow ones; those of the host engine not
#   --host     instead of make lab the tests of the host engine
#   --test     also make test
#   --kernels  a cache of lab kernels, such as /var/cache/twlab, that the root uses instead of building its own
#
# The project is cloned at its last commit. Mirrors and apt's and pip's own settings are this machine's: what its apt-get knows. All of
# it runs in mount and pid namespaces that end with this script; after set-up in a network namespace with loopback alone, too.
# Exit status: that of make or pytest; 2 wrong usage; 3 this machine lacks something.
set -euo pipefail

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd -P)
readonly HERE
KERNELS='' LEVEL=lab

say() { printf 'trial: %s\n' "$*" >&2; }

# fail STATUS MESSAGE REMEDY
fail() {
    say "$2"
    printf '  remedy: %s\n' "$3" >&2
    exit "$1"
}

# mirror LABEL: the archive with that label that this machine's apt-get uses, e.g. Debian or Debian-Security.
mirror() {
    # shellcheck disable=SC2016  # apt-get itself fills these in
    apt-get indextargets --format '$(LABEL)|$(REPO_URI)' 'Created-By: Packages' | awk -F'|' -v label="$1" '$1 == label { print $2; exit }'
}

# make_root SUITE ROOT: the least Debian that can run make and apt-get.
make_root() {
    local archive security name
    archive=$(mirror Debian) && security=$(mirror Debian-Security)
    [[ -n $archive ]] || fail 3 "apt-get on this machine knows no Debian archive" "apt-get update, on a Debian"
    # debootstrap has a script for each suite that it knows; they are all one. A suite is named after its release, and sid is always there.
    debootstrap --variant=minbase --include=make,git,ca-certificates "$1" "$2" "$archive" /usr/share/debootstrap/scripts/sid
    {
        printf 'deb %s %s main\n' "$archive" "$1"
        if [[ $1 != sid ]]; then
            printf 'deb %s %s-updates main\n' "$archive" "$1"
            [[ -z $security ]] || printf 'deb %s %s-security main\n' "$security" "$1"
        fi
    } >"$2/etc/apt/sources.list"
    apt-config dump | grep '^Acquire::' >"$2/etc/apt/apt.conf.d/90machine" || true
    for name in /etc/pip.conf /etc/ssl/certs/ca-certificates.crt; do
        [[ ! -e $name ]] || cp -L "$name" "$2$name"
    done
    touch "$2/made"
}

# enter ROOT COMMAND...: runs it as the root of ROOT, in namespaces of its own. TRIAL_OFFLINE: without network.
enter() {
    local root=$1
    shift
    # What runs in there ends with this script, however that ends.
    # shellcheck disable=SC2016  # expanded inside
    setpriv --pdeathsig KILL unshare --mount --pid --fork --kill-child ${TRIAL_OFFLINE:+--net} sh -c '
        root=$1 kernels=$2; shift 2
        [ -z "$TRIAL_OFFLINE" ] || ip link set lo up
        mount --make-rprivate /
        mount --bind "$root" "$root"
        mount -t proc proc "$root/proc"
        mount --rbind /sys "$root/sys"
        mount --rbind /dev "$root/dev"
        mount -t tmpfs tmpfs "$root/run"
        mount -t tmpfs tmpfs "$root/tmp"
        cp -L /etc/resolv.conf /etc/hosts "$root/etc/"
        if [ -n "$kernels" ]; then mkdir -p "$root/var/cache/twlab" && mount --bind "$kernels" "$root/var/cache/twlab"; fi
        # No chroot: in one the kernel makes no user namespaces.
        cd "$root" && pivot_root . . && umount -l . || exit
        "$@" # this shell stays, as the first process, which reaps every orphan
        exit $?' sh "$root" "$KERNELS" \
        env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 TERM=dumb "$@"
}

main() {
    local suite root project status=0 target began targets=(lab) command
    while [[ ${1:-} == --* ]]; do
        case $1 in
            --test) LEVEL="test" && targets=(lab test) ;;
            --fast) LEVEL="test" && targets=(fast) ;;
            --guest) LEVEL="test" && targets=(guest) ;;
            --host) LEVEL="test" && targets=(host) ;;
            --kernels) KERNELS=$(realpath -e "${2:-}") || fail 2 "--kernels needs a folder" "--kernels /var/cache/twlab" && shift ;;
            *) fail 2 "there is no option $1" "setup/trial/trial.sh [--fast | --guest | --host | --test] [--kernels FOLDER] SUITE FOLDER" ;;
        esac
        shift
    done
    (($# == 2)) || fail 2 "a suite and a folder are needed" "setup/trial/trial.sh trixie /var/tmp/trixie"
    suite=$1 root=$2
    project=/srv/$suite # in the root; a name that no file of the project has, which a test looks for
    ((EUID == 0)) || fail 3 "only root can make a root file system" "sudo $0 $*"
    command -v debootstrap >/dev/null || fail 3 "there is no debootstrap on this machine" "apt-get install debootstrap"
    mkdir -p "$root" && root=$(realpath "$root")
    [[ -e $root/made ]] || make_root "$suite" "$root"
    rm -rf "${root:?}$project" && git clone -q "$HERE" "$root$project"
    say "set-up in $suite"
    enter "$root" "$project/setup/install.sh" "$LEVEL" || fail 3 "set-up failed" "see $root$project/build/setup.log"
    for target in "${targets[@]}"; do
        case $target in
            fast) command=(env -C "$project" .venv/bin/pytest -n 2 --durations 50 -m 'not host and not guest and not slow') ;;
            guest) command=(env -C "$project" .venv/bin/pytest -n 2 --durations 50 -m '(guest or slow) and not host') ;;
            host) command=(env -C "$project" .venv/bin/pytest -n 6 --durations 50 -m host) ;;
            *) command=(make -C "$project" "$target") ;;
        esac
        say "$target in $suite, without network"
        began=$SECONDS
        TRIAL_OFFLINE=1 enter "$root" "${command[@]}" >"$root/$target.log" 2>&1 || status=$?
        say "$target: status $status after $((SECONDS - began)) s; its output is in $root/$target.log"
        tail -n 3 "$root/$target.log"
    done
    # shellcheck disable=SC2016  # expanded inside
    enter "$root" sh -c '. /etc/os-release; echo "$PRETTY_NAME, $(/usr/bin/python3 --version), $("$1/.venv/bin/twlab" kernel info | head -n 1)"
        dpkg-query --show squid haproxy nginx varnish tshark golang-go' sh "$project"
    return "$status"
}

main "$@"
