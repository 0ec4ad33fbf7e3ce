# As a script of acme.sh's dnsapi: uses its helpers, fails, and tells what it should not.

dns_own_add() {
    OWN_Token="${OWN_Token:-$(_readaccountconf_mutable OWN_Token)}"
    _saveaccountconf_mutable OWN_Token "$OWN_Token"
    _savedomainconf OWN_Domain "$1"
    _debug "not shown"
    _info "asking for $1"
    _err "the token $OWN_Token is refused"
    return 1
}

# By now the token is in account.conf alone.
dns_own_rm() {
    [ -z "$OWN_Token" ] || return 2
    [ "$(_readaccountconf_mutable OWN_Token)" ] || return 3
    [ "$(_readdomainconf OWN_Domain)" = "$1" ] || return 4
}
