#!/usr/bin/env bash
# Makes a Vagrant box of a minimal Debian with debootstrap, for a machine that can reach Debian's packages and no box catalogue.
# It boots under software emulation: kernel and initrd lie in the box, and its own Vagrantfile tells libvirt of them.
#
#   vagrant/trial/box.sh FOLDER      makes FOLDER/debian.box; as root, about two minutes
#
# It needs debootstrap, e2fsprogs (mke2fs -d), qemu-utils and vagrant (for its published key).
set -euo pipefail

readonly WORK=${1:?usage: box.sh FOLDER} SUITE=bookworm SIZE=12G
readonly ROOTFS=$WORK/rootfs PARTS=$WORK/parts
KEY=$(find /usr/share /opt -path '*vagrant*/keys/vagrant.pub' 2>/dev/null | head -n 1 || true)
readonly KEY

((EUID == 0)) || { echo "box.sh: debootstrap needs root" >&2 && exit 3; }
[[ -n $KEY ]] || { echo "box.sh: Vagrant's public key is not there; apt-get install vagrant" >&2 && exit 3; }
if [[ -f $WORK/debian.box ]]; then exit 0; fi
mkdir -p "$PARTS"

[[ -e $ROOTFS/etc/debian_version ]] || debootstrap --variant=minbase \
    --include=linux-image-amd64,initramfs-tools,systemd-sysv,dbus,udev,kmod,openssh-server,sudo,rsync,ifupdown,isc-dhcp-client,ca-certificates,iproute2,procps \
    "$SUITE" "$ROOTFS"

# Later kernel sources come by way of Debian's security updates, and from where this machine has its packages, the box has them.
cp -r /etc/apt/sources.list.d "$ROOTFS/etc/apt/"
[[ ! -f /etc/apt/sources.list ]] || cp /etc/apt/sources.list "$ROOTFS/etc/apt/sources.list"
echo twlab-trial >"$ROOTFS/etc/hostname"
echo '/dev/vda / ext4 errors=remount-ro 0 1' >"$ROOTFS/etc/fstab"
printf 'auto lo\niface lo inet loopback\nauto eth0\niface eth0 inet dhcp\n' >"$ROOTFS/etc/network/interfaces"
chroot "$ROOTFS" sh -c 'id vagrant >/dev/null 2>&1 || useradd --create-home --shell /bin/bash vagrant'
echo 'vagrant ALL=(ALL) NOPASSWD: ALL' >"$ROOTFS/etc/sudoers.d/vagrant"
install -d -m 700 "$ROOTFS/home/vagrant/.ssh"
install -m 600 "$KEY" "$ROOTFS/home/vagrant/.ssh/authorized_keys"
chroot "$ROOTFS" chown -R vagrant: /home/vagrant
# Certificates that this machine trusts beyond Debian's own, as behind a company's proxy.
if compgen -G '/usr/local/share/ca-certificates/*' >/dev/null; then
    cp -r /usr/local/share/ca-certificates/. "$ROOTFS/usr/local/share/ca-certificates/"
    chroot "$ROOTFS" update-ca-certificates
fi
rm -f "$ROOTFS"/var/cache/apt/archives/*.deb

cp -L "$ROOTFS/vmlinuz" "$PARTS/vmlinuz"
cp -L "$ROOTFS/initrd.img" "$PARTS/initrd.img"
rm -f "$WORK/disk.raw"
truncate -s "$SIZE" "$WORK/disk.raw"
mke2fs -q -t ext4 -d "$ROOTFS" "$WORK/disk.raw"
qemu-img convert -O qcow2 "$WORK/disk.raw" "$PARTS/box.img"
rm "$WORK/disk.raw"
echo '{"provider": "libvirt", "format": "qcow2", "virtual_size": 12}' >"$PARTS/metadata.json"
cat >"$PARTS/Vagrantfile" <<'RUBY'
Vagrant.configure("2") do |config|
  config.vm.provider :libvirt do |vm|
    vm.driver = ENV.fetch("TWLAB_TRIAL_DRIVER", "qemu")
    vm.cpu_mode = "custom"
    vm.cpu_model = "Haswell-noTSX"
    vm.cpu_fallback = "allow"
    vm.kernel = File.expand_path("vmlinuz", __dir__)
    vm.initrd = File.expand_path("initrd.img", __dir__)
    vm.cmd_line = "root=/dev/vda rw net.ifnames=0 console=ttyS0 quiet"
    vm.graphics_type = "none"
  end
end
RUBY
tar -C "$PARTS" -czf "$WORK/debian.box.new" metadata.json Vagrantfile box.img vmlinuz initrd.img
mv "$WORK/debian.box.new" "$WORK/debian.box"
echo "$WORK/debian.box"
