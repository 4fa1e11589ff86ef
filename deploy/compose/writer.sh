#!/bin/sh
# A service that knows nothing of Lockkeeper: it writes a note every 200 ms until it is told to stop.
set -eu
: "${NOTES_DSN:?where the notes live}"
number=0
while :; do
    number=$((number + 1))
    if psql --no-psqlrc --quiet "$NOTES_DSN" \
        --command "INSERT INTO notes (body) VALUES ('note $number of $(hostname)')"; then
        echo "wrote note $number"
    fi
    sleep 0.2
done
