#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# serve --pid: the memory of a process, private or a memfd. Memory that cannot be read is an error,
# never zeros.
. "$(dirname "$0")/lib.sh"

make_image "$tmp/img" 8

# A process with the image in private anonymous memory, in a private mapping that has a name, and
# in a memfd. It writes down where. On SIGUSR1 it unmaps the second half of the first and says so.
cat >"$tmp/vmm.py" <<'PY'
import ctypes, mmap, os, signal, sys
image = open(sys.argv[1], "rb").read()
libc = ctypes.CDLL(None)
def address(m): return ctypes.addressof(ctypes.c_char.from_buffer(m))
anonymous = mmap.mmap(-1, len(image), mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
memfd = os.memfd_create("ram")
os.write(memfd, image)
fd = os.memfd_create("named")
os.ftruncate(fd, len(image))
named = mmap.mmap(fd, len(image), mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE)
for i in range(0, len(image), 4096):
    page = image[i:i + 4096]
    if page != bytes(4096):
        anonymous[i:i + 4096] = page
        named[i:i + 4096] = page
start = address(anonymous)
def unmap(*_):
    libc.munmap(ctypes.c_void_p(start + len(image) // 2), ctypes.c_size_t(len(image) // 2))
    open(sys.argv[2] + ".unmapped", "w").close()
signal.signal(signal.SIGUSR1, unmap)
with open(sys.argv[2] + ".new", "w") as f:
    f.write("%x-%x %d\n" % (start, start + len(image), memfd))
os.rename(sys.argv[2] + ".new", sys.argv[2])
while True:
    signal.pause()
PY

vmm_start() {
	rm -f "$tmp/where" "$tmp/where.unmapped"
	python3 "$tmp/vmm.py" "$tmp/img" "$tmp/where" &
	vmm=$!
	within 60 test -s "$tmp/where"
	read -r range fd <"$tmp/where"
}
vmm_stop() {
	end KILL "$vmm"
}

# serve_process OPTION... - serves memory of a process; the URI is $uri
serve_process() {
	serve_start "$@" --listen "unix:$tmp/s"
}

# No byte of a copy that failed may differ from the image, unless it was never written.
has_image() { nbdcopy "$uri" "$tmp/copy" 2>>"$tmp/err" && cmp "$tmp/copy" "$tmp/img"; }

# refuses TEXT OPTION... - serve exits with 3 and a message that says TEXT
refuses() {
	local text=$1
	shift
	timeout 60 "$umig" serve "$@" --listen "unix:$tmp/s" >"$tmp/uri" 2>"$tmp/err"
	[ $? = 3 ] && grep -q -- "$text" "$tmp/err"
}

# pread OFFSET LENGTH - fails if the server reports an error
pread() {
	qemu-io -r -f raw -c "read $1 $2" "$uri" >"$tmp/out" 2>&1
	! grep -q "Input/output error" "$tmp/out" && grep -q "^read $2/$2 bytes" "$tmp/out"
}

vmm_start
serve_process --pid "$vmm" --range "$range"
has_image
ok $? "range.private_anonymous_memory_is_served" "$tmp/err"
nbdinfo --map --totals "$uri" | grep -q ' 2 '
ok $? "range.pages_of_zeros_are_announced" "$tmp/err"
fake_region 8 4
"$fake" pull --pid 1234 --from "$uri" 2>"$tmp/pull.err" && fake_is_whole "$tmp/img"
ok $? "range.fills_a_region" "$tmp/pull.err"
kill -USR1 "$vmm"
within 10 test -e "$tmp/where.unmapped"
pread 0 4194304
ok $? "range.what_is_mapped_is_still_served" "$tmp/out"
! pread 4194304 4096 && ! pread 4190208 8192 && grep -q "read failed: Input/output" "$tmp/out"
ok $? "range.what_was_unmapped_since_is_an_error" "$tmp/err"
! has_image
ok $? "range.nor_does_it_look_like_a_hole" "$tmp/err"
refuses "nothing mapped at" --pid "$vmm" --range "$range"
ok $? "range.not_mapped_is_refused" "$tmp/err"
serve_stop
vmm_stop

vmm_start
serve_process --pid "$vmm" --range "$range"
pread 0 4096
ok $? "dead.setup" "$tmp/out"
vmm_stop
! pread 0 4096 && grep -q "read failed: Input/output" "$tmp/out" && ! nbdinfo --map "$uri" >"$tmp/out" 2>&1
ok $? "dead.process_is_an_error" "$tmp/err"
fake_region 8 2
timeout -s TERM 2 "$fake" pull --pid 1234 --from "$uri" 2>"$tmp/pull.err"
[ $? = 124 ] && fake_is_empty
ok $? "dead.process_fills_nothing" "$tmp/pull.err"
serve_stop
refuses "no process $vmm" --pid "$vmm" --range "$range"
ok $? "dead.process_is_refused" "$tmp/err"

vmm_start
serve_process --pid "$vmm" --region "/memfd:named (deleted)"
has_image
ok $? "region.by_its_name" "$tmp/err"
serve_stop
refuses "no mapping called" --pid "$vmm" --region nonsense
ok $? "region.that_is_not_there_is_refused" "$tmp/err"
refuses "more than one" --pid "$vmm" --region ""
ok $? "region.that_is_not_one_is_refused" "$tmp/err"

serve_process --pid "$vmm" --fd "$fd"
has_image
ok $? "fd.of_a_process_is_served" "$tmp/err"
vmm_stop
has_image
ok $? "fd.lives_as_long_as_the_server" "$tmp/err"
serve_stop
vmm_start
timeout 60 "$umig" serve --pid "$vmm" --fd 999 --listen "unix:$tmp/s" 2>"$tmp/err"
[ $? = 1 ] && has_line "$tmp/err" "/proc/$vmm/fd/999: No such file"
ok $? "fd.that_is_not_open_says_so" "$tmp/err"

# --- not permitted
if [ "$(id -u)" = 0 ] && setpriv --reuid=65534 --clear-groups "$umig" --version >/dev/null 2>&1; then
	timeout 10 setpriv --reuid=65534 --clear-groups "$umig" serve --pid "$vmm" \
		--range "$range" --listen tcp:127.0.0.1:0 >"$tmp/uri" 2>"$tmp/err"
	[ $? = 3 ] && has_line "$tmp/err" "Permission denied; run umig as root"
	ok $? "other_user.is_refused" "$tmp/err"
else
	skip "other_user.is_refused" "needs root, and that others may run $umig"
fi
vmm_stop

for options in "--pid 1" "--pid 1 --range 1000-2000 --fd 3" "--pid 1 --range 2000-1000" \
	       "--pid 1 --range 1000-2001" "--file $tmp/img --range 1000-2000" \
	       "--pid 1 --range 0x1000" "--pid 0 --fd 1" "--file $tmp/img --pid 1 --fd 3"; do
	# shellcheck disable=SC2086 # several options
	timeout 60 "$umig" serve $options --listen "unix:$tmp/s" 2>"$tmp/err"
	[ $? = 2 ]
	ok $? "usage: $options" "$tmp/err"
done
finish
