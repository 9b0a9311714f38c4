#!/usr/bin/env bash
# `mn -c`, which cleans up after Mininet, ends every ping of the machine, and removes others' files and links.
#
# Guess: it removes what Mininet has made, by names that are its own; mn(1) says "clean and exit".
# Happened: with nothing of Mininet's there, it ended a ping and a program called `controller`, removed a link
# called office-eth0 and a log in /tmp, and said "Cleanup complete". A link by another name, another file and
# a sleep stayed.
# Matters to: classes that share a machine, where one student's cleaning ends another's lab; and to those
# who keep logs in /tmp beside an emulated network.
# Versions: Mininet 2.3.0, Linux 6.18.44. All of it is in namespaces here, with a /tmp of their own.
# shellcheck source=/dev/null
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
root
deb mininet=2.3.0-1
needs killall pkill ping /usr/bin/python3

cat >clean.sh <<'SH'
mount --bind . /mnt && mount -t tmpfs none /tmp && cd /mnt
export PATH="$PWD/unpacked/usr/bin:$PATH" PYTHONPATH="$PWD/unpacked/usr/lib/python3/dist-packages" HOME=/tmp/home
ip link add office-eth0 type veth peer name office-lan
ip link add uplink type veth peer name downlink
touch /tmp/backup.log /tmp/backup.txt
cp /bin/sleep controller
ping -q 127.0.0.1 >ping.txt & ping=$!
./controller 100 & controller=$!
sleep 101 & sleep=$!
sleep 1
told() { printf '%s: ' "$1"; shift; if "$@" >told.txt 2>&1; then echo there; else echo gone; fi; }
all() {
    told "a ping" kill -0 $ping
    told "a program called controller" kill -0 $controller
    told "a program called sleep" kill -0 $sleep
    told "link office-eth0" ip link show office-eth0
    told "link uplink" ip link show uplink
    told "/tmp/backup.log" ls /tmp/backup.log
    told "/tmp/backup.txt" ls /tmp/backup.txt
}
echo before && all
/usr/bin/python3 unpacked/usr/bin/mn -c 2>&1 | tail -n 1
sleep 0.5
echo after && all
SH
alone sh clean.sh >seen

expect <<'SEEN'
before
a ping: there
a program called controller: there
a program called sleep: there
link office-eth0: there
link uplink: there
/tmp/backup.log: there
/tmp/backup.txt: there
*** Cleanup complete.
after
a ping: gone
a program called controller: gone
a program called sleep: there
link office-eth0: gone
link uplink: there
/tmp/backup.log: gone
/tmp/backup.txt: there
SEEN
