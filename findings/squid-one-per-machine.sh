#!/usr/bin/env bash
# Two Squids with everything of their own, run by two users, cannot run at the same time.
#
# Guess: with its own configuration, port, pid file, logs and user, a second Squid starts like the first.
# Happened: it ends at once: "shm_open(/squid-cf__metadata.shm): File exists". Each Squid makes three segments in
# /dev/shm, for collapsed forwarding, which is not even in use. They are named after the service
# (squid -n), and that is "squid" for both. With another -n it starts.
# Matters to: those who run a test Squid on a machine that has one, or parallel tests as several users.
# Versions: Squid 5.7 (Debian 12).
# shellcheck source=/dev/null
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
root
needs setpriv
deb squid=5.7-2+deb12u6 squid-common=5.7-2+deb12u6

cat >two.sh <<'SH'
mount -t tmpfs none /dev/shm
start() { # NAME USER PORT [OPTION...]
    mkdir "$1" && chmod 777 "$1"
    printf '%s\n' "http_port 127.0.0.1:$3" "pid_filename $PWD/$1/pid" "cache_log $PWD/$1/log" "access_log none" \
        "coredump_dir $PWD/$1" "visible_hostname $1" >"$1/conf"
    name=$1 user=$2
    shift 3
    setpriv --reuid "$user" --clear-groups squid -N -f "$PWD/$name/conf" "$@" 2>"$name/complaints" &
    tries=0
    until grep -q 'Accepting HTTP' "$name/log" 2>/dev/null || grep -q FATAL "$name/complaints" "$name/log" 2>/dev/null || [ $tries = 300 ]; do
        tries=$((tries + 1)) && sleep 0.1
    done
    echo "$name: $(cat "$name/log" "$name/complaints" | grep -ho -e 'Accepting HTTP' -e 'FATAL: .*' | head -n 1)"
}
start first 1001 3128
ls /dev/shm
start second 1002 3129
start third 1003 3130 -n third
SH
alone sh two.sh >seen

expect <<'SEEN'
first: Accepting HTTP
squid-cf__metadata.shm
squid-cf__queues.shm
squid-cf__readers.shm
second: FATAL: Ipc::Mem::Segment::create failed to shm_open(/squid-cf__metadata.shm): (17) File exists
third: Accepting HTTP
SEEN
