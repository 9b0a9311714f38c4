#!/usr/bin/env bash
# Makes a Debian machine ready for twlab: `vagrant up` calls it in the VM, and it serves a bare Debian without Vagrant as well.
#
#   sudo vagrant/provision.sh [CHECKOUT] [USER]      CHECKOUT: default the one this script lies in; USER: who will work, default the user who called sudo
#
# A second run brings the copy in /opt/twlab up to date and does nothing else. A lab kernel that was built elsewhere by the same
# checkout is taken if its folder lies in CHECKOUT/vagrant/kernels (see README.md there): a class need not compile it forty times.
# Exit status: 0 ready; 2 wrong usage; 3 this machine lacks something.
set -euo pipefail

readonly HOME_OF_TWLAB=/opt/twlab LEAST_MEMORY_KB=1400000 LEAST_SPACE_KB=5000000
readonly KERNELS=/var/cache/twlab/kernels

say() { printf 'provision: %s\n' "$*" >&2; }

# fail STATUS MESSAGE REMEDY
fail() {
    say "$2"
    printf '  remedy: %s\n' "$3" >&2
    exit "$1"
}

examine() {
    [[ -f $CHECKOUT/pyproject.toml ]] || fail 2 "$CHECKOUT is no checkout of twlab" "$0 CHECKOUT [USER]"
    id "$WORKER" >/dev/null 2>&1 || fail 2 "there is no user called $WORKER" "$0 $CHECKOUT USER"
    ((EUID == 0)) || fail 3 "this installs packages, and you are not root" "sudo $0 $*"
    command -v apt-get >/dev/null || fail 3 "this machine has no apt-get" "use Debian 12, or setup/install.sh, which names what is missing"
    local memory_kb space_kb
    memory_kb=$(awk '/^MemTotal/ {print $2}' /proc/meminfo)
    ((memory_kb >= LEAST_MEMORY_KB)) ||
        fail 3 "$((memory_kb / 1024)) MB of memory are too few to build and run the lab kernel" "give the VM 2048 MB: TWLAB_MEMORY=2048 vagrant reload --provision"
    space_kb=$(df --output=avail -k /opt | tail -n 1)
    [[ -x $HOME_OF_TWLAB/.venv/bin/twlab ]] || ((space_kb >= LEAST_SPACE_KB)) ||
        fail 3 "$((space_kb / 1024)) MB free under /opt are too few: compilers, kernel source and build take 5 GB" "make the disk larger"
}

copy_checkout() {
    say "copying the checkout to $HOME_OF_TWLAB"
    # What set-up has made there is left: tar adds and replaces, and what the checkout no longer has is taken away first.
    local folder
    mkdir -p "$HOME_OF_TWLAB"
    for folder in twlab topologies tests docs benchmarks; do rm -rf "${HOME_OF_TWLAB:?}/$folder"; done
    tar -C "$CHECKOUT" --exclude=./.venv --exclude=./runs --exclude=./build --exclude=./.vagrant --exclude=./vagrant/kernels --exclude='*.box' \
        --exclude=__pycache__ -cf - . | tar -C "$HOME_OF_TWLAB" --no-same-owner -xf -
}

take_kernels() {
    local folder
    for folder in "$CHECKOUT"/vagrant/kernels/*/; do
        [[ -x $folder/linux && -f $folder/kernel.json && $(uname -m) == x86_64 ]] || continue
        say "taking the lab kernel $(basename "$folder")"
        mkdir -p "$KERNELS"
        cp -a --no-preserve=ownership "$folder" "$KERNELS/"
    done
}

# Users who log in find twlab on their path, and read the first commands.
greet() {
    ln -sf "$HOME_OF_TWLAB/.venv/bin/twlab" /usr/local/bin/twlab
    echo "export HANDOUTS=$HOME_OF_TWLAB/docs/handouts" >/etc/profile.d/twlab.sh
    cat >/etc/motd <<'MOTD'

twlab: experiments on TCP's TIME_WAIT, on real Linux TCP stacks.

    twlab doctor            what this machine can do
    twlab run stale-data    a first experiment: two seconds, no root
    twlab list              everything there is to run
    twlab serve --host 0.0.0.0    all of it in your browser: http://localhost:8000

The handouts are in /opt/twlab/docs/handouts ($HANDOUTS). Results go to the folder "runs" where you are.

MOTD
}

main() {
    examine "$@"
    copy_checkout
    take_kernels
    say "installing what reads captures"
    # tshark asks whether everybody may capture: twlab's labs need no such right.
    echo 'wireshark-common wireshark-common/install-setuid boolean false' | debconf-set-selections
    if ! command -v tshark >/dev/null; then
        apt-get -q -y update >/dev/null || true
        DEBIAN_FRONTEND=noninteractive apt-get -q -y install --no-install-recommends tshark >/dev/null ||
            fail 3 "apt-get could not install tshark" "see the messages above; is the network there?"
    fi
    "$HOME_OF_TWLAB/setup/install.sh" lab
    # Who works here cannot write there, and would compile every module at every start.
    "$HOME_OF_TWLAB/.venv/bin/python" -m compileall -q "$HOME_OF_TWLAB/twlab" "$HOME_OF_TWLAB/topologies"
    greet
    say "what this machine can do:"
    # As the one who will work, without root: that is how it has to stand.
    runuser -u "$WORKER" -- twlab doctor
    say "ready; log in and type: twlab run stale-data"
}

CHECKOUT=${1:-$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)}
WORKER=${2:-${SUDO_USER:-root}}
readonly CHECKOUT WORKER
main "$@"
