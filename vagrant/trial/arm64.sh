#!/usr/bin/env bash
# The host engine on arm64: makes a Debian for that processor, boots it under emulation (qemu), and runs scenarios in it.
#
#   vagrant/trial/arm64.sh FOLDER [SCENARIO...]      as root; FOLDER is for the machine, some 5 GB. Default: twlab doctor, and the catalogue
#
# A scenario that came as predicted, by FOLDER/results, is not run again: an interrupted trial goes on where it was. Each result is
# NAME.status (that of twlab run), NAME.txt (what it printed) and NAME/ (its runs); FOLDER/console.log is what the machine said.
#
# Debian's packages are unpacked, not configured: nothing of arm64 runs before the boot. The release is that of this machine's apt-get,
# its Python's version that of PYTHON (default: the project's own). The machine has one processor, 4 GB of memory, no disk and no network.
# Its clock counts instructions (qemu -icount), a thousand million a second, and time in which all wait takes none: to the labs it is as
# fast on a busy machine as on an idle one.
# Exit status: 0 all as predicted; 1 otherwise; 2 wrong usage; 3 this machine lacks something.
set -euo pipefail

PATH=$PATH:/usr/sbin:/sbin
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd -P)
PYTHON=${PYTHON:-$HERE/.venv/bin/python}
readonly HERE PYTHON PROJECT=/srv/twlab
# What a Debian has without being asked, and what the trial needs of it; what twlab needs is in setup/packages.txt.
readonly BASE=(base-files base-passwd bash coreutils dash findutils grep kmod libc-bin mount netbase procps sed linux-image-arm64)
# Where programs of this trial come from.
readonly NEEDED=(qemu-system-aarch64:qemu-system-arm aarch64-linux-gnu-gcc:gcc-aarch64-linux-gnu go:golang-go cpio:cpio depmod:kmod git:git)

say() { printf 'arm64: %s\n' "$*" >&2; }

# fail STATUS MESSAGE REMEDY
fail() {
    say "$2"
    printf '  remedy: %s\n' "$3" >&2
    exit "$1"
}

# examine ARGUMENT...: ends here where something is missing, and names all of it.
examine() {
    local one lacking=()
    (($#)) || fail 2 "a folder is needed" "vagrant/trial/arm64.sh FOLDER [SCENARIO...]"
    for one in "${NEEDED[@]}"; do
        command -v "${one%:*}" >/dev/null || lacking+=("${one#*:}")
    done
    [[ -e /usr/share/gocode/src/gvisor.dev ]] || lacking+=(golang-gvisor-gvisor-dev)
    ((${#lacking[@]} == 0)) || fail 3 "this machine lacks: ${lacking[*]}" "apt-get install --no-install-recommends ${lacking[*]}"
    "$PYTHON" -m pip --version >/dev/null 2>&1 || fail 3 "$PYTHON is no Python with pip" "setup/install.sh lab, or name one in PYTHON"
    ((EUID == 0)) || fail 3 "the files of the machine belong to root" "sudo $0 $*"
}

# The packages and what they depend on, for another processor than this machine's, with an apt that knows of nothing installed.
unpack() {
    [[ ! -e $WORK/unpacked ]] || return 0
    local apt=(apt-get -q -y -o APT::Architecture=arm64 -o APT::Architectures=arm64 -o APT::Install-Recommends=false
        -o "Dir::State=$WORK/apt" -o "Dir::State::status=$WORK/apt/status" -o "Dir::Cache=$WORK/apt/cache") package name needed
    mkdir -p "$WORK"/apt/lists/partial "$WORK"/apt/cache/archives/partial "$ROOT"/usr/{bin,sbin,lib}
    : >"$WORK/apt/status"
    # Go's packages are left out: the program that they are for is compiled here.
    needed=$(awk '/^\[lab\]/ { lab = 1; next } /^\[/ { lab = 0 } lab && /\|/ && !/^golang/ { print $1 }' "$HERE/setup/packages.txt")
    say "fetching Debian's packages for arm64"
    "${apt[@]}" update
    # shellcheck disable=SC2086  # one word a package
    "${apt[@]}" --download-only install "${BASE[@]}" $needed
    for name in bin sbin lib; do ln -sfn "usr/$name" "$ROOT/$name"; done
    for package in "$WORK"/apt/cache/archives/*.deb; do
        dpkg-deb --fsys-tarfile "$package" | tar -x -C "$ROOT" --keep-directory-symlink
    done
    configure
    touch "$WORK/unpacked"
}

# What the packages' scripts would have done.
configure() {
    ln -sf xtables-nft-multi "$ROOT/usr/sbin/iptables"
    ln -sf gcc "$ROOT/usr/bin/cc"
    mkdir -p "$ROOT"/{proc,sys,dev,run,tmp,root,srv,opt,results,etc} "$ROOT/usr/local/bin"
    cp "$ROOT/usr/share/base-passwd/passwd.master" "$ROOT/etc/passwd"
    cp "$ROOT/usr/share/base-passwd/group.master" "$ROOT/etc/group"
    printf '%s:x:990:990::/nonexistent:/usr/sbin/nologin\n' haproxy varnish vcache >>"$ROOT/etc/passwd"
    printf '%s:x:990:\n' haproxy varnish >>"$ROOT/etc/group"
    echo '127.0.0.1 localhost' >"$ROOT/etc/hosts"
    depmod -b "$ROOT" "$(basename "$ROOT"/lib/modules/*)"
}

# Python's packages as wheels for arm64. The one that has no such wheel is compiled for the other processor: its setup.py takes the
# compiler, the system and the ending of the file from the environment.
python_packages() {
    local wheels=$WORK/wheels platform platforms=() headers=$ROOT/usr/include compiler="aarch64-linux-gnu-gcc --sysroot=$ROOT"
    [[ ! -e $SITE/made ]] || return 0
    [[ -e $headers/python$VERSION ]] || fail 3 "Debian's Python here is not $VERSION" "name one that is in PYTHON, or make $WORK anew"
    say "fetching Python's packages for arm64"
    rm -rf "$VENV" "$wheels" && mkdir -p "$wheels" "$VENV"/{bin,libexec}
    env CC="$compiler" LDSHARED="$compiler -shared" CFLAGS="-O1 -w -I $headers/python$VERSION" _PYTHON_HOST_PLATFORM=linux-aarch64 \
        SETUPTOOLS_EXT_SUFFIX=".cpython-${VERSION/./}-aarch64-linux-gnu.so" \
        "$PYTHON" -m pip wheel -q --no-deps --no-cache-dir --no-binary netfilterqueue -w "$wheels" netfilterqueue
    "$PYTHON" -m pip wheel -q --no-deps -w "$wheels" mininet crossplane "$HERE"
    for platform in linux_aarch64 manylinux2014_aarch64 manylinux_2_{17,24,26,27,28}_aarch64; do platforms+=(--platform "$platform"); done
    "$PYTHON" -m pip install -q --target "$SITE" "${platforms[@]}" --python-version "$VERSION" --implementation cp --only-binary :all: \
        --find-links "$wheels" "$wheels"/twlab-*.whl
    # What makes it a virtual environment, and the project a part of it.
    printf 'home = /usr/bin\ninclude-system-site-packages = false\n' >"$VENV/pyvenv.cfg"
    ln -s /usr/bin/python3 "$VENV/bin/python"
    echo "$PROJECT" >"$SITE/twlab.pth"
    touch "$SITE/made"
}

# The project at its last commit, compiled as far as it can be here, and what the machine does.
project() {
    local stack
    rm -rf "${ROOT:?}$PROJECT"
    git clone -q --depth 1 "file://$HERE" "$ROOT$PROJECT"
    rm -rf "$SITE"/{twlab,topologies} # of the wheel only what it says about itself is used
    "$PYTHON" -m compileall -q -s "$ROOT" "$ROOT$PROJECT/twlab" "$ROOT$PROJECT/topologies" "$SITE" >/dev/null || true
    stack=$VENV/libexec/twlab-gvisor-$(sha256sum "$HERE/twlab/stacks/gvisor.go" | cut -c-12)
    [[ -e $stack ]] || env GOARCH=arm64 GO111MODULE=off GOPATH=/usr/share/gocode GOCACHE="$WORK/go" CGO_ENABLED=0 GOFLAGS='' \
        go build -trimpath -o "$stack" "$HERE/twlab/stacks/gvisor.go"
    printf '#!/bin/sh\nexec /opt/venv/bin/python -P -m twlab "$@"\n' >"$ROOT/usr/local/bin/twlab"
    cat >"$ROOT/trial-init" <<'INIT'
#!/bin/bash
export PATH=/usr/local/bin:/usr/sbin:/usr/bin HOME=/root LC_ALL=C.UTF-8 TERM=dumb COLUMNS=120
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
for folder in /run /tmp /dev/shm; do mount -t tmpfs -o mode=1777 tmpfs $folder; done
ip link set lo up
modprobe -a virtio_pci 9pnet_virtio 9p tun # the last one as udev would
mount -t 9p -o trans=virtio,version=9p2000.L,msize=262144 results /results
cd /tmp
status=0
echo "trial: $(uname -srm), $(python3 --version)"
twlab doctor >/tmp/doctor 2>&1 || status=1
cat /tmp/doctor
cp /tmp/doctor /results/doctor.txt
while read -r name; do
    [[ $(cat "/results/$name.status" 2>/dev/null) != 0 ]] || continue
    began=$SECONDS answer=0
    twlab run "$name" --engine host --out /tmp/runs >/tmp/said 2>&1 </dev/null || answer=$? status=1
    cat /tmp/said
    echo "trial: $name: status $answer after $((SECONDS - began)) s of the machine's own time"
    rm -rf "/results/$name"
    cp -r /tmp/runs "/results/$name"
    cp /tmp/said "/results/$name.txt"
    echo $answer >"/results/$name.status"
    rm -rf /tmp/runs
done </results/wanted
sync
echo "trial: status $status"
echo o >/proc/sysrq-trigger
sleep 60
INIT
    chmod 755 "$ROOT/trial-init" "$ROOT/usr/local/bin/twlab"
}

# boot SCENARIO...: all of Debian is the kernel's first root file system, so that nothing waits for a disk.
boot() {
    local name names=("$@")
    mkdir -p "$WORK/results"
    ((${#names[@]})) ||
        mapfile -t names < <(cd "$HERE" && "$PYTHON" -c 'from twlab.catalogue import load_scenarios as load; print(*load(), sep="\n")')
    printf '%s\n' "${names[@]}" >"$WORK/results/wanted"
    # Without what no lab reads: documentation, and drivers of machines that are not this one.
    (cd "$ROOT" && find . -xdev \( -path ./boot -o -path './usr/share/doc' -o -path './usr/share/man' -o -path './usr/share/locale' \
        -o -path './usr/lib/modules/*/kernel/sound' -o -path './usr/lib/modules/*/kernel/drivers/[!nv]*' \
        -o -path './usr/lib/modules/*/kernel/drivers/net/[ew]*' \) -prune -o -print0 | cpio -0 -o -H newc --quiet) >"$WORK/root.cpio"
    qemu-system-aarch64 -M virt -cpu cortex-a72 -accel tcg -icount shift=0,sleep=off -rtc clock=vm -m 4096 -smp 1 \
        -nographic -nodefaults -serial stdio -monitor none -nic none -no-reboot \
        -virtfs "local,path=$WORK/results,mount_tag=results,security_model=none" \
        -kernel "$ROOT"/boot/vmlinuz-* -initrd "$WORK/root.cpio" -append 'console=ttyAMA0 quiet panic=-1 rdinit=/trial-init' \
        </dev/null | tee -a "$WORK/console.log"
    for name in "${names[@]}"; do
        [[ $(cat "$WORK/results/$name.status" 2>/dev/null) == 0 ]] || { say "$name: see $WORK/results/$name.txt" && STATUS=1; }
    done
}

main() {
    examine "$@"
    mkdir -p "$1"
    WORK=$(realpath "$1") STATUS=0
    ROOT=$WORK/root
    VENV=$ROOT/opt/venv VERSION=$("$PYTHON" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    readonly WORK ROOT VENV VERSION SITE=$VENV/lib/python$VERSION/site-packages
    shift
    unpack
    python_packages
    project
    boot "$@"
    exit "$STATUS"
}

main "$@"
