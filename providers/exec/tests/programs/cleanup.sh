#!/bin/sh
# As certbot's --manual-cleanup-hook: what the auth hook said must have come through, if anything has.
set -eu
. "$(dirname "$0")/nsupdate.sh"
case $CERTBOT_AUTH_OUTPUT in
"" | "added $CERTBOT_VALIDATION with …") ;;
*) exit 65 ;; # EX_DATAERR
esac
txt delete "_acme-challenge.$CERTBOT_DOMAIN." "$CERTBOT_VALIDATION"
