#!/usr/bin/env bash
# ab, siege, hey and wrk without keep-alive leave the TIME_WAITs to the server; httperf and h2load have them.
#
# Guess: who opens 40 connections for 40 requests ends with 40 ports in TIME_WAIT, except with ab, whose
# HTTP/1.0 lets the server close.
# Happened: `Connection: close` has the server close first with siege, hey -disable-keepalive and wrk, too. The
# client's ports are free at once, and it can open any number of connections a second. httperf and h2load
# announce nothing, close first, and keep a port for each connection.
# Matters to: people who look for the limit of a proxy's or a client's ports with such a tool: four of the six
# never meet it, and fill the server's table of TIME_WAITs instead.
# Versions: ab 2.3 (apache2-utils 2.4.71), siege 4.0.7, wrk 4.1.0, hey 0.1.4, httperf 0.9.0, h2load 1.52.0,
# nginx 1.22.1, Linux 6.18.44.
# shellcheck source=/dev/null
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
root
deb apache2-utils=2.4.71-1~deb12u1 siege=4.0.7-1+b1 wrk=4.1.0-3+b2 hey=0.1.4-2+b4 httperf=0.9.0-9+b2 \
    nghttp2-client=1.52.0-1+deb12u3
needs nginx ab siege wrk hey httperf h2load

cat >nginx.conf <<'CONF'
pid nginx.pid;
error_log nginx.log;
events { worker_connections 1024; }
http { access_log off; server { listen 127.0.0.1:8080; location / { return 200 "hello\n"; } } }
CONF
cat >generate.sh <<'SH'
export HOME="$PWD"
mkdir .siege
nginx -p "$PWD" -c "$PWD/nginx.conf"
sleep 1
url=http://127.0.0.1:8080/
told() { # wrk runs for a second, and is cut off in a connection: told is who has nine tenths of them, and more
    tool=$1
    "$@" >out.txt 2>&1 || cat out.txt
    sleep 0.5
    server=$(ss -Htn state time-wait sport = :8080 | wc -l) client=$(ss -Htn state time-wait dport = :8080 | wc -l)
    ss -HtnK state time-wait >out.txt
    if [ "$server" -gt $((9 * client)) ]; then end="the server"
    elif [ "$client" -gt $((9 * server)) ]; then end="the client"
    else end="the server $server, the client $client"; fi
    echo "$tool: TIME_WAIT at $end"
}
told ab -n 40 $url
told siege -b -c 1 -r 40 $url
told hey -n 40 -c 1 -disable-keepalive $url
told wrk -t 1 -c 1 -d 1 -H "Connection: close" $url
told httperf --server 127.0.0.1 --port 8080 --num-conns 40
told h2load --h1 -n 40 -c 40 $url
SH
alone sh generate.sh >seen

expect <<'SEEN'
ab: TIME_WAIT at the server
siege: TIME_WAIT at the server
hey: TIME_WAIT at the server
wrk: TIME_WAIT at the server
httperf: TIME_WAIT at the client
h2load: TIME_WAIT at the client
SEEN
