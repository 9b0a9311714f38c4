#!/usr/bin/env bash
# The host engine on arm64: makes a Debian 12 for that processor, boots it under emulation (qemu), and runs twlab in it.
#
#   vagrant/trial/arm64.sh FOLDER [COMMAND]      as root; FOLDER is for the machine, some 3 GB. COMMAND: for the shell in there,
#                                                default: twlab doctor; twlab run --all --engine host
#
# Debian's packages are unpacked, not configured: nothing of arm64 runs before the boot. The machine has one processor, 2 GB of memory
# and no network. What it prints is also in FOLDER/console.log. Exit status: that of COMMAND; 3 this machine lacks something.
# It needs qemu-system-arm, gcc-aarch64-linux-gnu, libc6-dev-arm64-cross, e2fsprogs, cpio, kmod, and Python 3.11 or later with pip.
set -euo pipefail

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd -P)
WORK=$(realpath -m "${1:?usage: arm64.sh FOLDER [COMMAND]}")
readonly HERE WORK COMMAND=${2:-twlab doctor; twlab run --all --engine host}
readonly ROOT=$WORK/root SITE=$WORK/root/opt/site PYTHON=${PYTHON:-python3} LIBRARIES=usr/lib/aarch64-linux-gnu
# What a Debian has without being asked, then what twlab needs.
readonly PACKAGES=(base-files base-passwd bash busybox-static coreutils dash findutils grep kmod libc-bin mount netbase procps sed util-linux
    linux-image-arm64 python3 libpython3-dev libnetfilter-queue-dev libnftables1 iptables iproute2 iputils-ping mininet haproxy nginx-light squid)

((EUID == 0)) || { echo "arm64.sh: the files of the machine belong to root: sudo $0 $*" >&2 && exit 3; }
for program in qemu-system-aarch64 aarch64-linux-gnu-gcc mke2fs cpio depmod; do
    command -v "$program" >/dev/null || { echo "arm64.sh: $program is missing: see the head of this script" >&2 && exit 3; }
done

# The packages and what they depend on, for another processor than this machine's, with an apt and a dpkg that know of nothing.
unpack() {
    local apt=(apt-get -q -y -o APT::Architecture=arm64 -o APT::Architectures=arm64 -o APT::Install-Recommends=false
        -o "Dir::State=$WORK/apt" -o "Dir::State::status=$WORK/apt/status" -o "Dir::Cache=$WORK/apt/cache") package name
    mkdir -p "$WORK"/apt/lists/partial "$WORK"/apt/cache/archives/partial "$ROOT"/usr/{bin,sbin,lib}
    : >"$WORK/apt/status"
    "${apt[@]}" update
    "${apt[@]}" --download-only install "${PACKAGES[@]}"
    for name in bin sbin lib; do ln -sfn "usr/$name" "$ROOT/$name"; done
    for package in "$WORK"/apt/cache/archives/*.deb; do
        dpkg-deb --fsys-tarfile "$package" | tar -x -C "$ROOT" --keep-directory-symlink
    done
    # What the packages' scripts would have done.
    ln -sf xtables-nft-multi "$ROOT/usr/sbin/iptables"
    mkdir -p "$ROOT"/{proc,sys,dev,run,tmp,root,srv,opt}
    cp "$ROOT/usr/share/base-passwd/passwd.master" "$ROOT/etc/passwd"
    cp "$ROOT/usr/share/base-passwd/group.master" "$ROOT/etc/group"
    echo 'haproxy:x:101:101::/nonexistent:/usr/sbin/nologin' >>"$ROOT/etc/passwd"
    echo 'haproxy:x:101:' >>"$ROOT/etc/group"
    echo '127.0.0.1 localhost' >"$ROOT/etc/hosts"
}

# Python's packages as wheels for arm64; those in pure Python are built here, and the one in C is compiled for the other processor.
python_packages() {
    local wheels=$WORK/wheels name needed
    mkdir -p "$wheels" "$SITE"
    "$PYTHON" -m pip wheel -q --no-deps -w "$wheels" mininet crossplane
    "$PYTHON" -m pip download -q --no-deps --no-binary :all: -d "$wheels" netfilterqueue
    mapfile -t needed < <("$PYTHON" -c '
import sys, tomllib
for line in tomllib.load(open(sys.argv[1], "rb"))["project"]["dependencies"]:
    if not line.startswith(("mininet", "crossplane", "netfilterqueue")):
        print(line)' "$HERE/pyproject.toml")
    "$PYTHON" -m pip install -q --target "$SITE" --platform manylinux_2_28_aarch64 --platform manylinux_2_27_aarch64 \
        --platform manylinux_2_17_aarch64 --platform manylinux2014_aarch64 --python-version 3.11 --implementation cp --only-binary :all: \
        --find-links "$wheels" mininet crossplane "${needed[@]}"
    tar -xf "$wheels"/*etfilter*ueue*.tar.gz -C "$wheels"
    name=$(find "$wheels" -name _impl.c)
    mkdir -p "$SITE/netfilterqueue"
    cp "$(dirname "$name")"/*.py "$SITE/netfilterqueue/"
    # Python's configuration is in a folder that is named after the processor.
    aarch64-linux-gnu-gcc -shared -fPIC -O1 -w -idirafter "$ROOT/usr/include" -I "$ROOT/usr/include/python3.11" \
        -o "$SITE/netfilterqueue/_impl.cpython-311-aarch64-linux-gnu.so" "$name" -L "$ROOT/$LIBRARIES" -lnetfilter_queue -lnfnetlink
}

# The kernel, and a first root file system with what it needs to reach the disk.
boot_files() {
    local release early=$WORK/early module
    release=$(basename "$ROOT"/lib/modules/*)
    depmod -b "$ROOT" "$release"
    cp "$ROOT/boot/vmlinuz-$release" "$WORK/vmlinuz"
    rm -rf "$early" && mkdir -p "$early"/{modules,disk,dev,proc,bin}
    cp "$ROOT/bin/busybox" "$early/bin/"
    {
        printf '#!/bin/busybox sh\nbusybox mount -t devtmpfs dev /dev\n'
        for module in virtio_pci virtio_blk ext4; do
            modprobe -d "$ROOT" -S "$release" --show-depends "$module" | awk '$1 == "insmod" { print $2 }'
        done | awk '!seen[$0]++' | while read -r module; do
            cp "$module" "$early/modules/"
            printf 'busybox insmod /modules/%s\n' "$(basename "$module")"
        done
        printf 'busybox mount -t ext4 /dev/vda /disk\nexec busybox switch_root /disk /trial-init\n'
    } >"$early/init"
    chmod 755 "$early/init"
    (cd "$early" && find . | cpio -o -H newc --quiet) >"$WORK/early.cpio"
}

# The project at its last commit, the command, and the disk.
disk() {
    rm -rf "${ROOT:?}/srv/twlab" "$WORK/disk.raw"
    git clone -q --depth 1 "file://$HERE" "$ROOT/srv/twlab"
    printf '#!/bin/sh\nPYTHONPATH=/opt/site:/srv/twlab exec python3 -P -m twlab "$@"\n' >"$ROOT/usr/local/bin/twlab"
    printf '%s\n' "$COMMAND" >"$ROOT/trial-command"
    cat >"$ROOT/trial-init" <<'INIT'
#!/bin/bash
export PATH=/usr/local/bin:/usr/sbin:/usr/bin HOME=/root LC_ALL=C.UTF-8 TERM=dumb COLUMNS=120
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev 2>/dev/null
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
for folder in /run /tmp /dev/shm; do mount -t tmpfs tmpfs $folder; done
ip link set lo up
cd /root
echo "trial: $(uname -srm), $(python3 --version)"
bash /trial-command
echo "trial: status $?"
sync
echo o >/proc/sysrq-trigger
sleep 60
INIT
    chmod 755 "$ROOT/trial-init" "$ROOT/usr/local/bin/twlab"
    mke2fs -q -t ext4 -d "$ROOT" "$WORK/disk.raw" 4G
}

if [[ ! -e $WORK/made ]]; then
    unpack
    python_packages
    boot_files
    touch "$WORK/made"
fi
disk
qemu-system-aarch64 -M virt -cpu cortex-a72 -m 2048 -smp 1 -nographic -nodefaults -serial stdio -monitor none -nic none -no-reboot \
    -kernel "$WORK/vmlinuz" -initrd "$WORK/early.cpio" -append 'console=ttyAMA0 quiet panic=-1' \
    -drive "file=$WORK/disk.raw,format=raw,if=virtio,cache=unsafe" </dev/null | tee "$WORK/console.log"
status=$(tr -d '\r' <"$WORK/console.log" | sed -n 's/^trial: status //p' | tail -n 1)
exit "${status:-3}"
