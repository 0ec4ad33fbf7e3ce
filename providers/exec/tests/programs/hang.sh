#!/bin/sh
# Never ends, and neither does what it starts; hears nothing of SIGTERM. Notes both process ids in $FOLDER.
trap '' TERM
echo "the token is $TOKEN"
sleep 600 &
echo "$$ $!" >"$FOLDER/pids.new"
mv "$FOLDER/pids.new" "$FOLDER/pids"
while :; do wait; sleep 1; done
