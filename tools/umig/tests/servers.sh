#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# pull from servers that are not part of this project: they speak NBD, or nbdkit does it for them.
. "$(dirname "$0")/lib.sh"

make_image "$tmp/img" 16
uri="nbd+unix:///?socket=$tmp/s"

# check_server NAME IMAGE MIB COMMAND... - both kinds of region, with $vcpus threads that fault
vcpus=4
check_server() {
	local name=$1 image=$2 mib=$3
	shift 3

	server_start "$@"
	for kind in fake_region fake_shared_region; do
		$kind "$mib" "$vcpus"
		pull --from "$uri" && fake_is_whole "$image"
		ok $? "server.$name.$kind" "$tmp/err"
	done
	# The stats filter writes its file when it is asked to end.
	server_stop TERM
}

# --- an image that is a text
python3 - "$tmp/text.img" <<'PY'
import sys
image = bytearray(2 << 20)
image[0:8192] = b"a" * 8192
image[1 << 20:(1 << 20) + 4096] = bytes((1, 2, 3, 4)) * 1024
image[0x1fffff] = 0xff
open(sys.argv[1], "wb").write(image)
PY
check_server data "$tmp/text.img" 2 nbdkit -f -r -U "$tmp/s" data size=2M \
	'( 0x61 )*8192 @1048576 ( 1 2 3 4 )*1024 @0x1fffff 0xff'

# --- how much was read, as the server counts it: zeros are not read, nothing is read twice. Nobody
# faults here, because a page for which demand and background both ask is read twice.
vcpus=0
check_server stats "$tmp/img" 16 nbdkit -f -r -U "$tmp/s" --filter=stats \
	"$UMIG_PLUGIN_DIR/nbdkit-umig-plugin.so" "$tmp/img" "statsfile=$tmp/stats"
python3 - "$tmp/img" "$tmp/stats" <<'PY'
import re, sys
image = open(sys.argv[1], "rb").read()
data = sum(image[i:i + 4096] != bytes(4096) for i in range(0, len(image), 4096)) * 4096
line = [l for l in open(sys.argv[2]) if l.startswith("read:")][0]
number, unit = re.search(r", ([0-9.]+) ([KM]iB|B|bytes),", line).groups()
read = float(number) * {"B": 1, "bytes": 1, "KiB": 1024, "MiB": 1 << 20}[unit]
print("two pulls of %d bytes of data have read %d bytes" % (data, read))
sys.exit(not 2 * data * 0.99 <= read <= 2 * data * 1.01)
PY
ok $? "server.stats.reads_the_data_and_no_zeros" "$tmp/stats"

vcpus=4

# --- a compressed snapshot
if xz --keep --block-size=1MiB "$tmp/img"; then
	check_server xz "$tmp/img" 16 nbdkit -f -r -U "$tmp/s" --filter=xz file "$tmp/img.xz"
else
	skip server.xz "xz is not installed"
fi

# --- a web server: what object storage looks like
if busybox httpd -f -p 127.0.0.1:0 --help 2>&1 | grep -q Usage; then
	port=$(python3 -c "import socket; s = socket.socket(); s.bind(('127.0.0.1', 0)); print(s.getsockname()[1])")
	busybox httpd -f -p "127.0.0.1:$port" -h "$tmp" 2>"$tmp/httpd.log" &
	within 10 bash -c "exec 3<>/dev/tcp/127.0.0.1/$port"
	check_server http "$tmp/img" 16 nbdkit -f -r -U "$tmp/s" curl "http://127.0.0.1:$port/img"
else
	skip server.http "no busybox with httpd"
fi

# --- a file on a host that has nothing but sshd
sshd=$(PATH=$PATH:/usr/sbin type -p sshd)
if [ "$sshd" ] && [ "$(id -u)" = 0 ]; then
	port=$(python3 -c "import socket; s = socket.socket(); s.bind(('127.0.0.1', 0)); print(s.getsockname()[1])")
	mkdir -p /run/sshd
	ssh-keygen -q -t ed25519 -N '' -f "$tmp/host_key"
	ssh-keygen -q -t ed25519 -N '' -f "$tmp/key"
	echo "[127.0.0.1]:$port $(cut -d' ' -f1,2 "$tmp/host_key.pub")" >"$tmp/known"
	"$sshd" -D -e -f /dev/null -h "$tmp/host_key" -o "ListenAddress=127.0.0.1:$port" \
		-o "AuthorizedKeysFile=$tmp/key.pub" -o StrictModes=no -o PermitRootLogin=yes \
		-o UsePAM=no -o "Subsystem=sftp internal-sftp" 2>"$tmp/sshd.log" &
	within 10 bash -c "exec 3<>/dev/tcp/127.0.0.1/$port"
	check_server ssh "$tmp/img" 16 nbdkit -f -r -U "$tmp/s" ssh host=127.0.0.1 "port=$port" \
		user=root "identity=$tmp/key" "known-hosts=$tmp/known" "path=$tmp/img"
else
	skip server.ssh "needs sshd (openssh-server) and root"
fi
finish
