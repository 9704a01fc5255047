#!/bin/sh
# Prints the ACL file with each user's password in it, as a hash: users.sh users.acl SECRETS
# SECRETS is a folder with a file USER.url for each user: redis://USER:PASSWORD@HOST:PORT/0
set -eu
rules=$(cat "$1")
for file in "$2"/*.url; do
  url=$(cat "$file")
  user=$(basename "$file" .url)
  password=$(printf %s "$url" | sed -n "s|^rediss*://$user:\([A-Za-z0-9._~-]*\)@.*|\1|p")
  if [ -z "$password" ]; then
    echo "$file: expected redis://$user:PASSWORD@..., the password of letters, digits, '.', '_', '~' and '-'" >&2
    exit 1
  fi
  hash=$(printf %s "$password" | sha256sum | cut -d' ' -f1)
  rules=$(printf '%s\n' "$rules" | sed "s|^user $user reset on |&#$hash |")
done
printf '%s\n' "$rules"
