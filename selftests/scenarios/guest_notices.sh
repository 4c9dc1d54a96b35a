#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# The guest of the other scenarios notices whatever can be wrong with a page. Its RAM is changed
# behind its back while it stands still. It rewrites all pages in each round, so a fault is
# counted once.

# shellcheck disable=SC2034 # for guest_start
GUEST_REWRITE=64
# shellcheck source-path=SCRIPTDIR source=../lib/scenario.sh
. "$(dirname "$0")/../lib/scenario.sh"

# A page that the guest works on; its neighbour, too
page=$((64 << 8))

# to_page FILE BYTES - overwrites the beginning of the page
to_page()
{
	dd if="$1" of="$source_ram" bs="$2" count=1 seek=$((page * 4096 / $2)) conv=notrunc status=none
}

# from_page PAGE FILE
from_page()
{
	dd if="$source_ram" of="$2" bs=4096 count=1 skip="$1" status=none
}

# The last line may not be complete yet.
wrong_bytes()
{
	sed -n 's/.*guest: round .*wrong bytes \([0-9]*\)\r$/\1/p' "$tmp/source.serial" | tail -n 1
}

wrong_bytes_are()
{
	wrong_bytes
	[ "$(wrong_bytes)" -eq "$1" ]
}

# notices BYTES COMMAND... - after the command so many bytes more are wrong, and no more later
notices()
{
	local expected=$(($(wrong_bytes) + $1)) before
	shift

	qmp source stop && "$@" && qmp source cont && within 60 wrong_bytes_are "$expected" || return
	before=$(guest_rounds source)
	within 60 guest_beyond source $((before + 1)) && wrong_bytes_are "$expected"
}

neighbour()
{
	from_page $((page + 1)) "$tmp/page" && to_page "$tmp/page" 4096
}

# As it was before the tests
stale()
{
	to_page "$tmp/old" 4096
}

source_comes_up source_start
from_page "$page" "$tmp/old"
check notices_a_page_of_zeros notices 4096 to_page /dev/zero 4096
check notices_half_a_page notices 2048 to_page /dev/zero 2048
check notices_the_content_of_another_page notices 4096 neighbour
check notices_what_the_page_was_before notices 4096 stale
finish
