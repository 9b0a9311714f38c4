#!/usr/bin/env bash
# `vagrant up` for real, on a machine that must not be touched: libvirt, its bridge, its firewall rules and its address server live in
# namespaces of their own, and the VM is emulated, so that no hardware virtualisation is needed.
#
#   vagrant/trial/up.sh FOLDER [COMMAND...]      as root. FOLDER: where the box is, or is made. COMMAND: what to do in the namespaces,
#                                                default: vagrant up, vagrant provision, the first commands, vagrant destroy
#
# It needs vagrant, vagrant-libvirt, libvirt-daemon-system, qemu-system-x86, dnsmasq-base, iptables, slirp4netns, rsync, and what box.sh needs.
# The namespaces reach the outside through slirp4netns, for Debian's packages and Python's.
set -euo pipefail

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
readonly HERE WORK=${1:?usage: up.sh FOLDER [COMMAND...]}
shift
"$HERE/box.sh" "$WORK"

# Inside: private state for libvirt, its daemons, then the command.
inside() {
    mount -t tmpfs tmpfs /run
    mkdir -p /run/lock /run/libvirt /run/dbus "$WORK"/{home,lib,cache,etc}
    [[ -e $WORK/etc/libvirtd.conf ]] || cp -r /etc/libvirt/. "$WORK/etc/"
    printf 'user = "root"\ngroup = "root"\nsecurity_driver = "none"\ncgroup_controllers = []\nnamespaces = []\nremember_owner = 0\n' >"$WORK/etc/qemu.conf"
    mount --bind "$WORK/etc" /etc/libvirt
    mount --bind "$WORK/lib" /var/lib/libvirt
    mount --bind "$WORK/cache" /var/cache/libvirt
    echo 'nameserver 10.0.2.3' >"$WORK/resolv.conf"
    mount --bind "$WORK/resolv.conf" /etc/resolv.conf
    while ! ip -o addr show dev tap0 2>/dev/null | grep -q 'inet '; do sleep 0.1; done
    ip link set lo up
    sysctl -qw net.ipv4.ip_forward=1
    virtlogd -d
    libvirtd -d
    export HOME=$WORK/home VAGRANT_DEFAULT_PROVIDER=libvirt TWLAB_BOX=twlab/trial TWLAB_BOOT_TIMEOUT=1800
    cd "$HERE/.."
    vagrant box list | grep -q twlab/trial || vagrant box add --name twlab/trial "$WORK/debian.box"
    if (($#)); then
        "$@"
    else
        vagrant up
        vagrant provision
        vagrant ssh -c 'cat /etc/motd; twlab run stale-data'
        vagrant destroy -f
    fi
}
export -f inside
export HERE WORK

# The shell waits until its network is there; slirp4netns ends with it.
unshare --net --mount --pid --fork --kill-child --mount-proc bash -c 'set -euo pipefail; inside "$@"' inside "$@" &
readonly SHELL_PID=$!
trap 'kill $SHELL_PID 2>/dev/null || true' EXIT
until [[ $(readlink "/proc/$SHELL_PID/ns/net") != "$(readlink /proc/self/ns/net)" ]]; do sleep 0.1; done
slirp4netns --configure --disable-host-loopback --mtu=1500 "$SHELL_PID" tap0 >"$WORK/slirp.log" 2>&1 &
readonly SLIRP_PID=$!
trap 'kill $SHELL_PID $SLIRP_PID 2>/dev/null || true' EXIT
wait "$SHELL_PID"
