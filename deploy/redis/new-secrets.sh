#!/bin/sh
# Makes a folder of secrets for docker compose: new-secrets.sh FOLDER [HOST]
# A random password per user; with HOST, the name or address at which others reach Redis, certificates for TLS as well.
# Then: FLEET_SECRETS=FOLDER docker compose up -d --wait (with TLS: -f docker-compose.yml -f deploy/redis/tls.yml)
set -eu
[ $# -ge 1 ] || { sed -n '2,4s/^# //p' "$0" >&2; exit 2; }
[ ! -e "$1" ] || { echo "$1 is there already; secrets are never overwritten." >&2; exit 1; }
# Others cannot enter the folder; the files are readable because each container reads them as a user of its own.
mkdir -p "$1" && chmod 700 "$1"
folder=$(cd "$1" && pwd) host=${2:-}

write_url() { # USER HOST PATH-OF-THE-AUTHORITY
  scheme=redis query=
  [ -z "$host" ] || { scheme=rediss query="?ssl_ca_certs=$3"; }
  echo "$scheme://$1:$(openssl rand -hex 24)@$2:6379/0$query" > "$folder/$1.url"
}
for user in worker flower; do write_url "$user" redis /run/secrets/ca.crt; done
for user in producer operator; do write_url "$user" "${host:-127.0.0.1}" "$folder/ca.crt"; done

if [ -n "$host" ]; then
  cd "$folder"
  case "$host" in *[!0-9.]*) name="DNS:$host" ;; *) name="IP:$host" ;; esac
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 3650 -subj "/CN=detection fleet" \
    -addext "keyUsage=critical,keyCertSign,cRLSign" -keyout ca.key -out ca.crt 2>/dev/null
  openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj "/CN=redis" -keyout redis.key \
    -out redis.csr 2>/dev/null
  printf 'subjectAltName=DNS:redis,DNS:localhost,IP:127.0.0.1,%s\nextendedKeyUsage=serverAuth\n' "$name" > redis.ext
  openssl x509 -req -in redis.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 825 -extfile redis.ext -out redis.crt \
    2>/dev/null
  rm -f redis.csr redis.ext ca.srl
fi
chmod 444 "$folder"/*
[ -z "$host" ] || chmod 400 "$folder/ca.key"
