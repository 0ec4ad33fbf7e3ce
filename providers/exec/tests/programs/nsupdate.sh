# For the programs beside it: `txt add|delete NAME. VALUE` changes one value at the server in $SERVER (address and
# port, with a space between), signed by the key $TSIG_NAME (algorithm, colon, name) with $TSIG_SECRET, which is on no
# command line: nsupdate reads it. A failure tells what no program should, so that tests see it blotted out.
txt() {
    if said=$(printf 'server %s\nkey %s %s\nupdate %s %s 60 TXT "%s"\nsend\n' "$SERVER" \
        "$TSIG_NAME" "$TSIG_SECRET" "$1" "$2" "$3" | nsupdate 2>&1); then
        return 0
    fi
    printf '%s\nthe secret was %s\n' "$said" "$TSIG_SECRET" >&2
    case $said in
    *NOTAUTH* | *REFUSED* | *BADSIG* | *BADKEY*) exit 77 ;; # EX_NOPERM
    *) exit 1 ;;
    esac
}
