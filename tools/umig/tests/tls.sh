#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Encrypted pages: serve and pull with keys and with certificates; strangers get nothing.
. "$(dirname "$0")/lib.sh"

make_image "$tmp/img" 8
psktool -u alice -p "$tmp/psk" >/dev/null 2>&1
psktool -u alice -p "$tmp/other" >/dev/null 2>&1

certificates "$tmp/certs"
certificates "$tmp/forged"

# fills OPTION... - a region gets the whole image
fills() { fake_region 8 2 && pull "$@" && fake_is_whole "$tmp/img"; }

# pull tries for ever, and nothing is filled.
gets_nothing() {
	fake_region 8 2
	pulls_in_vain "no connection to the source" "$@"
}

serve_start --file "$tmp/img" --listen tcp:127.0.0.1:0 --tls-psk "$tmp/psk"
fills --from "$uri" --tls-psk "$tmp/psk" --tls-user alice
ok $? "tls.psk_over_tcp" "$tmp/err"
gets_nothing --from "$uri" --tls-psk "$tmp/other" --tls-user alice
ok $? "tls.another_key_gets_nothing" "$tmp/err"
gets_nothing --from "${uri/nbds/nbd}"
ok $? "tls.plain_text_gets_nothing" "$tmp/err"
# With TLS options umig does not follow a URI without TLS.
fake_region 8 2
pull_start --from "${uri/nbds/nbd}" --tls-psk "$tmp/psk" --tls-user alice
within 10 has_line "$tmp/err" "TLS"
code=$?
end TERM "$pid"
[ $code = 0 ] && fake_is_empty
ok $? "tls.is_not_given_up_for_a_plain_uri" "$tmp/err"
serve_stop

serve_start --file "$tmp/img" --listen "unix:$tmp/s" --tls-psk "$tmp/psk"
fills --from "$uri" --tls-psk "$tmp/psk" --tls-user alice
ok $? "tls.psk_over_a_unix_socket" "$tmp/err"
serve_stop

serve_start --file "$tmp/img" --listen tcp:127.0.0.1:0 --host localhost --tls-certificates "$tmp/certs"
uri=${uri/127.0.0.1/localhost}
fills --from "$uri" --tls-certificates "$tmp/certs"
ok $? "tls.certificates" "$tmp/err"
gets_nothing --from "$uri" --tls-certificates "$tmp/forged"
ok $? "tls.a_client_of_another_authority_gets_nothing" "$tmp/err"
serve_stop
# A server with the certificate of another authority
serve_start --file "$tmp/img" --listen tcp:127.0.0.1:0 --host localhost --tls-certificates "$tmp/forged"
uri=${uri/127.0.0.1/localhost}
gets_nothing --from "$uri" --tls-certificates "$tmp/certs"
ok $? "tls.nothing_is_taken_from_a_server_of_another_authority" "$tmp/err"
serve_stop

"$umig" serve --file "$tmp/img" --listen "unix:$tmp/s" --tls-psk "$tmp/nothing" 2>"$tmp/err"
[ $? = 2 ] && has_line "$tmp/err" "cannot be read"
ok $? "tls.a_key_that_is_not_there_exits_2" "$tmp/err"
"$fake" pull --pid 1234 --from "$uri" --tls-user alice 2>"$tmp/err"
[ $? = 2 ]
ok $? "tls.a_user_without_a_key_exits_2" "$tmp/err"
finish
