#!/usr/bin/env bash
# A failover of PostgreSQL under load: two servers with synchronous replication under Patroni and
# etcd, HAProxy in front of whichever leads, two nO nodes and keyed clients. The leader is killed, as
# by a power cut, while the clients go on. Nothing that was acknowledged may be lost or doubled.
#
#   loadtest/failover/run.sh [ROUNDS]        NO=target/release/no
#
# Needs Debian's patroni, etcd-server, haproxy and postgresql, and root (servers run as postgres).
# Everything lives in one temporary folder and on loopback; only what it started is ended.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
rounds=${1:-3}
no=$(realpath "${NO:-target/release/no}")
here=$(mktemp -d /tmp/no-failover-XXXXXX)
chmod 755 "$here"
pids=()

stop() {
  for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
  sleep 2
  for pid in "${pids[@]}"; do kill -9 "$pid" 2>/dev/null || true; done
  for of in one two; do
    [ -f "$here/$of/data/postmaster.pid" ] && kill -9 "$(head -1 "$here/$of/data/postmaster.pid")" || true
  done
}
trap stop EXIT

say() { printf '\n== %s\n' "$*"; }
free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

etcd_port=$(free_port) peer_port=$(free_port) proxy_port=$(free_port)
declare -A pg rest
for of in one two; do pg[$of]=$(free_port) rest[$of]=$(free_port); done

say "etcd"
etcd --name x --data-dir "$here/etcd" --enable-v2 \
  --listen-client-urls "http://127.0.0.1:$etcd_port" \
  --advertise-client-urls "http://127.0.0.1:$etcd_port" \
  --listen-peer-urls "http://127.0.0.1:$peer_port" \
  --initial-advertise-peer-urls "http://127.0.0.1:$peer_port" \
  --initial-cluster "x=http://127.0.0.1:$peer_port" >"$here/etcd.log" 2>&1 &
pids+=($!)

bin=$(ls -d /usr/lib/postgresql/*/bin | sort -V | tail -1)
start_patroni() {
  local of=$1
  (cd "$here/$of" && exec setpriv --reuid=postgres --regid=postgres --clear-groups \
    patroni "$here/$of.yml" >>"$here/$of.log" 2>&1) &
  patroni_pid[$of]=$!
  pids+=($!)
}
declare -A patroni_pid
for of in one two; do
  mkdir -p "$here/$of"
  chown postgres "$here/$of"
  cat >"$here/$of.yml" <<YAML
scope: no-failover
name: $of
restapi: {listen: "127.0.0.1:${rest[$of]}", connect_address: "127.0.0.1:${rest[$of]}"}
etcd: {host: "127.0.0.1:$etcd_port"}
bootstrap:
  dcs:
    ttl: 20
    loop_wait: 2
    retry_timeout: 4
    maximum_lag_on_failover: 1048576
    synchronous_mode: true
    postgresql:
      use_pg_rewind: true
      parameters: {synchronous_commit: "on", max_connections: 60, wal_log_hints: "on"}
  initdb: [{encoding: UTF8}, data-checksums]
  pg_hba: ["host all all 127.0.0.1/32 trust", "host replication all 127.0.0.1/32 trust"]
postgresql:
  listen: 127.0.0.1:${pg[$of]}
  connect_address: 127.0.0.1:${pg[$of]}
  data_dir: $here/$of/data
  bin_dir: $bin
  pgpass: $here/$of/pgpass
  authentication:
    superuser: {username: postgres, password: x}
    replication: {username: replicator, password: x}
  parameters: {unix_socket_directories: "$here/$of"}
YAML
  chmod 644 "$here/$of.yml"
done

say "two servers"
start_patroni one
for _ in $(seq 60); do curl -sf "http://127.0.0.1:${rest[one]}/primary" >/dev/null && break; sleep 1; done
start_patroni two
synced() { curl -sf "http://127.0.0.1:${rest[$1]}/synchronous" >/dev/null; }
for _ in $(seq 90); do { synced one || synced two; } && break; sleep 1; done
synced one || synced two || { echo "no synchronous standby" >&2; tail "$here"/*.log >&2; exit 1; }

say "a way to whichever leads"
cat >"$here/haproxy.cfg" <<CFG
defaults
  mode tcp
  timeout connect 2s
  timeout client 1h
  timeout server 1h
listen leader
  bind 127.0.0.1:$proxy_port
  option httpchk GET /primary
  default-server inter 500ms fall 1 rise 1 on-marked-down shutdown-sessions
  server one 127.0.0.1:${pg[one]} check port ${rest[one]}
  server two 127.0.0.1:${pg[two]} check port ${rest[two]}
CFG
haproxy -f "$here/haproxy.cfg" >"$here/haproxy.log" 2>&1 &
pids+=($!)
sql() { psql -h 127.0.0.1 -p "$proxy_port" -U postgres -d "${2:-no}" -Atqc "$1"; }
leads() { [ "$(sql "SELECT NOT pg_is_in_recovery()" postgres 2>/dev/null)" = t ]; }
# A server counts as up until it was looked at.
sleep 2
for _ in $(seq 30); do leads && break; sleep 1; done
sql "CREATE DATABASE no" postgres

say "two nodes"
urls=()
for node in a b; do
  port=$(free_port)
  cat >"$here/$node.json" <<JSON
{"service": {"host": "127.0.0.1", "port": $port, "node": "$node"},
 "engine": {"dataDir": "$here/$node", "pinCores": false},
 "security": {"rbac": {"enabled": false}},
 "database": {"host": "127.0.0.1", "port": $proxy_port, "name": "no", "user": "postgres",
              "retry": "120s", "lease": "60s"}}
JSON
  [ "$node" = a ] && "$no" db migrate --config "$here/$node.json"
  "$no" serve --config "$here/$node.json" >"$here/$node.log" 2>&1 &
  pids+=($!)
  urls+=("http://127.0.0.1:$port")
done
for url in "${urls[@]}"; do
  for _ in $(seq 60); do curl -sf "$url/health/ready" >/dev/null && break; sleep 1; done
done

say "load, and $rounds failovers"
python3 loadtest/failover/load.py "$here/stop" "$here/taken" "${urls[@]}" &
load=$!
pids+=("$load")
sleep 5
for round in $(seq "$rounds"); do
  leader=one
  curl -sf "http://127.0.0.1:${rest[two]}/primary" >/dev/null && leader=two
  other=$([ "$leader" = one ] && echo two || echo one)
  before=$(wc -l <"$here/taken")
  began=$(date +%s%3N)
  # Patroni first, so that it does not start the server again; then the server and all its own.
  kill -9 "${patroni_pid[$leader]}" $(cat "$here/$leader/data/postmaster.pid" | head -1)
  for _ in $(seq 600); do curl -sf "http://127.0.0.1:${rest[$other]}/primary" >/dev/null && break; sleep 0.1; done
  promoted=$(($(date +%s%3N) - began))
  for _ in $(seq 600); do [ "$(wc -l <"$here/taken")" -gt $((before + 200)) ] && break; sleep 0.1; done
  going=$(($(date +%s%3N) - began))
  echo "round $round: $leader killed; $other leads after $promoted ms, 200 more tasks after $going ms"
  start_patroni "$leader"
  for _ in $(seq 90); do synced "$leader" && break; sleep 1; done
  synced "$leader" || { echo "$leader does not follow again" >&2; exit 1; }
done
touch "$here/stop"
wait "$load"

say "what came of it"
taken=$(wc -l <"$here/taken")
for _ in $(seq 60); do [ "$(sql "SELECT count(*) FROM tasks WHERE state <> 'succeeded'")" = 0 ] && break; sleep 1; done
all=$(sql "SELECT count(*) FROM tasks")
open=$(sql "SELECT count(*) FROM tasks WHERE state <> 'succeeded'")
sql "SELECT id FROM tasks" | sort >"$here/there"
cut -d' ' -f2 "$here/taken" | sort >"$here/acknowledged"
lost=$(comm -23 "$here/acknowledged" "$here/there" | wc -l)
doubled=$(uniq -d "$here/acknowledged" | wc -l)
keys=$(cut -d' ' -f1 "$here/taken" | sort -u | wc -l)
echo "$taken acknowledged under $keys keys, $all in the database; lost $lost, doubled $doubled, not ended $open"
[ "$lost" = 0 ] && [ "$doubled" = 0 ] && [ "$open" = 0 ] && [ "$all" = "$taken" ] && [ "$keys" = "$taken" ]
