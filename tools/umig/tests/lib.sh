# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# For the test scripts: TAP, waiting without sleeping blindly, QEMUs, a fake region.

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
umig=$here/../umig
fake=$here/umig-fake
tmp=$(mktemp -d /dev/shm/umig-test-XXXXXX)
nr=0
failed=0
export UMIG_PLUGIN_DIR=$here/..
export UMIG_RUN_DIR=$tmp/run

# Only what this script has started, by process id.
started=()
cleanup() {
	# A child that is killed before it has become what it runs comes here, too.
	[ "$BASHPID" = $$ ] || return
	for pid in "${started[@]}"; do kill -9 "$pid" 2>/dev/null; done
	wait 2>/dev/null
	rm -rf "$tmp"
}
trap cleanup EXIT

ok() {
	nr=$((nr + 1))
	if [ "$1" -eq 0 ]; then echo "ok $nr - $2"; else
		echo "not ok $nr - $2"
		failed=1
		if [ -n "$3" ]; then sed 's/^/# /' "$3" | tail -25; fi
	fi
}

skip() {
	nr=$((nr + 1))
	echo "ok $nr - $1 # SKIP $2"
}

finish() {
	echo "1..$nr"
	exit $failed
}

# wait_until SECONDS COMMAND...: polls until COMMAND succeeds.
wait_until() {
	local end=$((SECONDS + $1))
	shift
	until "$@" >/dev/null 2>&1; do
		# Once more: it may have been the command that took so long.
		[ $SECONDS -lt $end ] || { "$@" >/dev/null 2>&1; return; }
		sleep 0.02
	done
}

has_line() { grep -q -- "$2" "$1"; }

# make_image FILE MIB: data, pages of zeros among it, and holes.
make_image() {
	python3 - "$1" "$2" <<'PY'
import random, sys
r = random.Random(int(sys.argv[2]))
n = int(sys.argv[2]) * 256
with open(sys.argv[1], "wb") as f:
    f.truncate(n * 4096)
    for i in range(n):
        if (i // 128) % 2:
            continue
        f.seek(i * 4096)
        f.write(bytes(4096) if r.random() < 0.2 else r.randbytes(4096))
PY
}

# fake_region MIB VCPUS: a fresh region for umig-fake.
fake_region() {
	rm -f "$tmp/ram" "$tmp/map" "$tmp/shared"
	export UMIG_FAKE_FILE=$tmp/ram UMIG_FAKE_MAP=$tmp/map
	export UMIG_FAKE_SIZE=$(($1 << 20)) UMIG_FAKE_VCPUS=$2 UMIG_FAKE_PID=1234
	unset UMIG_FAKE_OFFSET UMIG_FAKE_SHARED UMIG_FAKE_STEP
}

# The same, shared. What was received in place and not made present is in $tmp/shared.
fake_shared_region() {
	fake_region "$@"
	export UMIG_FAKE_SHARED=$tmp/shared
}

# No page has been written to since it was present: the guest's mark is all over it.
fake_is_untouched() {
	python3 - "$tmp/map" "$tmp/shared" <<'PY'
import sys
m, ram = (open(p, "rb").read() for p in sys.argv[1:])
mark = b"\xa5" * 4096
for i in range(len(m) - 1):
    if m[i] and ram[i * 4096:(i + 1) * 4096] != mark:
        sys.exit("page %d was written to after it was present" % i)
PY
}

# Every page installed exactly once and equal to the image; the region is converted.
fake_is_whole() {
	cmp "$tmp/ram" "$1" && python3 - "$tmp/map" <<'PY'
import sys
m = open(sys.argv[1], "rb").read()
sys.exit(0 if set(m[:-1]) == {1} and m[-1] == 1 else 1)
PY
}

# No page has been filled.
fake_is_empty() { python3 -c "import sys; sys.exit(any(open('$tmp/map','rb').read()))"; }

# pulls_in_vain TEXT OPTIONS...: pull says TEXT and goes on trying, and nothing is filled
pulls_in_vain() {
	local text=$1
	shift
	rm -f "$tmp/err"
	"$fake" pull --pid 1234 "$@" 2>"$tmp/err" &
	pid=$!
	started+=("$pid")
	wait_until 60 has_line "$tmp/err" "$text"
	kill -TERM "$pid"
	wait "$pid"
	[ $? = 4 ] && has_line "$tmp/err" "$text" && fake_is_empty
}

# Pages that are present equal the image's; the others are untouched (zero in the file), but for one
# that was being installed when umig was killed. Those that come while it looks are left out.
fake_is_sound() {
	python3 - "$tmp/map" "$tmp/ram" "$tmp/map" "$1" <<'PY'
import os, sys
before, ram, m, img = (open(p, "rb").read() for p in sys.argv[1:])
unmarked = 0
for i in range(len(m) - 1):
    page, image = (b[i * 4096:(i + 1) * 4096] for b in (ram, img))
    wrong = page != (image if m[i] else bytes(4096))
    if m[i] == before[i] and wrong and not m[i] and page == image and not unmarked:
        unmarked = 1  # dev_fake.c writes a page, then marks it, one at a time
    elif m[i] == before[i] and wrong or m[i] > 1:
        sys.exit("page %d is wrong" % i)
PY
}

fake_has_pages() {
	python3 -c "import sys; m = open('$tmp/map', 'rb').read()
sys.exit(0 if sum(1 for b in m[:-1] if b) >= $1 else 1)"
}

# certificates DIR: an authority of its own, a server that is localhost, a client
certificates() {
	mkdir "$1"
	for who in ca server client; do
		certtool --generate-privkey --key-type ecdsa --outfile "$1/$who-key.pem" 2>/dev/null
	done
	printf 'cn=authority\nca\ncert_signing_key\n' >"$1/ca.info"
	printf 'cn=localhost\ndns_name=localhost\nip_address=127.0.0.1\ntls_www_server\nsigning_key\n' >"$1/server.info"
	printf 'cn=client\ntls_www_client\nsigning_key\n' >"$1/client.info"
	certtool --generate-self-signed --load-privkey "$1/ca-key.pem" --template "$1/ca.info" \
		--outfile "$1/ca-cert.pem" 2>/dev/null
	for who in server client; do
		certtool --generate-certificate --load-privkey "$1/$who-key.pem" \
			--load-ca-certificate "$1/ca-cert.pem" --load-ca-privkey "$1/ca-key.pem" \
			--template "$1/$who.info" --outfile "$1/$who-cert.pem" 2>/dev/null
	done
}

# source_start COMMAND...: a page server, until its socket $tmp/s is there
source_start() {
	rm -f "$tmp/s" "$tmp/source.log"
	"$@" >"$tmp/source.log" 2>&1 &
	source_pid=$!
	started+=("$source_pid")
	wait_until 60 test -S "$tmp/s"
}
source_stop() {
	kill -9 "$source_pid" 2>/dev/null
	wait "$source_pid" 2>/dev/null
}
