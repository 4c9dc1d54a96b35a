# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# For umig's test scripts: umig with a device that is a file, images, page servers.
#
# umig-fake is umig with dev_fake.c instead of the module. Its region is the file $tmp/ram, and
# $tmp/map says which pages are present.

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=selftests/lib/tap.sh
. "$here/../../../selftests/lib/tap.sh"
# shellcheck source=selftests/lib/vmm.sh
. "$here/../../../selftests/lib/vmm.sh"
fake=$here/umig-fake
export UMIG_PLUGIN_DIR=$here/..
export UMIG_RUN_DIR=$tmp/run

# make_image FILE MIB - data, pages of zeros among it, and holes
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

# fake_region MIB VCPUS - a fresh region for umig-fake; so many threads fault on its pages
fake_region() {
	rm -f "$tmp/ram" "$tmp/map" "$tmp/shared"
	export UMIG_FAKE_FILE=$tmp/ram UMIG_FAKE_MAP=$tmp/map
	export UMIG_FAKE_SIZE=$(($1 << 20)) UMIG_FAKE_VCPUS=$2 UMIG_FAKE_PID=1234
	unset UMIG_FAKE_OFFSET UMIG_FAKE_SHARED UMIG_FAKE_STEP
}

# fake_shared_region MIB VCPUS - the same, shared; pages are received in place into $tmp/shared
fake_shared_region() {
	fake_region "$@"
	export UMIG_FAKE_SHARED=$tmp/shared
}

# Every page was installed exactly once and equals the image, and the region is converted. In a shared
# region no page was written to after it had become present: the guest's mark is all over it.
fake_is_whole() {
	cmp "$tmp/ram" "$1" && python3 - "$tmp/map" <<'PY' && { [ ! "${UMIG_FAKE_SHARED-}" ] || fake_is_untouched; }
import sys
m = open(sys.argv[1], "rb").read()
sys.exit(0 if set(m[:-1]) == {1} and m[-1] == 1 else 1)
PY
}

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

# No page has been filled.
fake_is_empty() { python3 -c "import sys; sys.exit(any(open('$tmp/map','rb').read()))"; }

# pulls_in_vain TEXT OPTION... - pull says TEXT and goes on trying, and nothing is filled
pulls_in_vain() {
	local text=$1
	shift
	pull_start "$@"
	within 60 has_line "$tmp/err" "$text"
	end TERM "$pid"
	[ $? = 4 ] && has_line "$tmp/err" "$text" && fake_is_empty
}

# fake_is_sound IMAGE - pages that are present equal the image's. The others are untouched (zero in the
# file), except one that was being installed when umig was killed. Pages that come while it looks are
# left out. In a shared region fake_is_untouched holds as well.
fake_is_sound() {
	python3 - "$tmp/map" "$tmp/ram" "$tmp/map" "$1" <<'PY' && { [ ! "${UMIG_FAKE_SHARED-}" ] || fake_is_untouched; }
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

# certificates DIR - an authority of its own, a server that is localhost, a client
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

# pull OPTION... - into the fake region, to the end
pull() {
	timeout 60 "$fake" pull --pid 1234 "$@" >"$tmp/out" 2>"$tmp/err"
}

# pull_start OPTION... - the same in the background, as $pid
pull_start() {
	rm -f "$tmp/out" "$tmp/err"
	"$fake" pull --pid 1234 "$@" >"$tmp/out" 2>"$tmp/err" &
	pid=$!
}

# check_source NAME REGION MIB IMAGE COMMAND... - one test: pull fills a region with what that page
# server has. REGION is fake_region or fake_shared_region.
check_source() {
	local name=$1 region=$2 mib=$3 image=$4
	shift 4
	server_start "$@"
	"$region" "$mib" 8
	pull --from "nbd+unix:///?socket=$tmp/s" && fake_is_whole "$image"
	ok $? "$name" "$tmp/err"
	server_stop KILL
}
