#!/bin/sh
# As certbot's --manual-auth-hook. What it says is for the cleanup hook.
set -eu
. "$(dirname "$0")/nsupdate.sh"
txt add "_acme-challenge.$CERTBOT_DOMAIN." "$CERTBOT_VALIDATION"
echo "  added $CERTBOT_VALIDATION with $TSIG_SECRET"
echo "not for the cleanup hook" >&2
