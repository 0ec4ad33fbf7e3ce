# For the programs beside it: `txt add|delete NAME. VALUE` changes one value at the server in $SERVER (address and
# port, with a space between), signed by the key in $TSIG_KEY (algorithm, colon, name, space, secret). The key is on no
# command line: nsupdate reads it. A failure tells what no program should, so that tests see it blotted out.
txt() {
    if said=$(printf 'server %s\nkey %s\nupdate %s %s 60 TXT "%s"\nsend\n' "$SERVER" "$TSIG_KEY" "$1" "$2" "$3" |
        nsupdate 2>&1); then
        return 0
    fi
    printf '%s\nthe key was %s, or in short %s\n' "$said" "$TSIG_KEY" "${TSIG_KEY##* }" >&2
    case $said in
    *NOTAUTH* | *REFUSED* | *BADSIG* | *BADKEY*) exit 77 ;; # EX_NOPERM
    *) exit 1 ;;
    esac
}
