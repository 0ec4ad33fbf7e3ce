#!/bin/sh
# As lego's provider `exec` runs it: present|cleanup NAME. VALUE
set -eu
. "$(dirname "$0")/nsupdate.sh"
case $1 in
present) txt add "$2" "$3" ;;
cleanup) txt delete "$2" "$3" ;;
*) exit 64 ;; # EX_USAGE
esac
