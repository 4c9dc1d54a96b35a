#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# serve and the nbdkit plugin, seen with libnbd's own tools.
. "$(dirname "$0")/lib.sh"

make_image "$tmp/img" 8
serve_start --file "$tmp/img" --listen "unix:$tmp/s"
ok $? "serve.prints_the_uri" "$tmp/serve.err"
[ "$(nbdinfo --size "$uri")" = 8388608 ]
ok $? "export.has_the_size_of_the_file"
nbdcopy "$uri" "$tmp/copy" && cmp "$tmp/copy" "$tmp/img"
ok $? "export.has_the_contents"
nbdinfo "$uri" | grep -q "is_read_only: true"
ok $? "export.is_read_only"
nbdinfo --map "$uri" >"$tmp/map.txt"
python3 - "$tmp/img" "$tmp/map.txt" <<'PY'
import sys
img = open(sys.argv[1], "rb").read()
kind = {}
for line in open(sys.argv[2]):
    off, length, k = line.split()[:3]
    for p in range(int(off) // 4096, (int(off) + int(length)) // 4096):
        kind[p] = int(k)
for p in range(len(img) // 4096):
    zero = img[p * 4096:(p + 1) * 4096] == bytes(4096)
    assert bool(kind[p] & 2) == zero, p
PY
ok $? "extents.zero_exactly_where_pages_are_zero" "$tmp/map.txt"
grep -q " 3 " "$tmp/map.txt"
ok $? "extents.holes_are_holes"
truncate -s 4M "$tmp/img"
! nbdcopy "$uri" "$tmp/copy" 2>"$tmp/err"
ok $? "export.of_a_file_that_shrank_fails_and_never_reads_zero"
serve_stop
ok $? "serve.ends_on_sigterm"
[ ! -e "$tmp/s" ]
ok $? "serve.removes_its_socket"

# Neighbours that are smaller than a page and a size that is no multiple of one.
printf 'x%.0s' {1..5000} >"$tmp/odd"
serve_start --file "$tmp/odd" --listen tcp:127.0.0.1:0
nbdcopy "$uri" "$tmp/copy2" && cmp "$tmp/copy2" "$tmp/odd"
ok $? "serve.on_a_free_tcp_port" "$tmp/serve.err"
serve_stop

"$umig" serve --file "$tmp/none" --listen "unix:$tmp/s" 2>"$tmp/err"
[ $? = 1 ] && grep -q "No such file" "$tmp/err"
ok $? "serve.says_that_the_file_is_missing" "$tmp/err"
"$umig" serve --file "$tmp/odd" --listen bogus 2>"$tmp/err"
[ $? = 2 ]
ok $? "serve.refuses_a_bad_address" "$tmp/err"
finish
