# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0
#
# What counts as a complaint in a kernel log. Sourced by run.sh, which reads the log after each
# program, and by emulator.sh, which reads the console of a VM that died.

# The words with which a kernel complains, whoever caused it. No word here may be part of a
# function's name, because function names stand in every stack trace.
complaints='WARNING:|BUG:|BUG at|Oops|general protection|KASAN|KCSAN|UBSAN|KFENCE|suspected memory leaks'
complaints="$complaints|Kernel panic|possible (recursive|circular)|lockdep is turned off|lock held when"
complaints="$complaints|suspicious RCU|rcu.*detected .*stall"
complaints="$complaints|INFO: task|blocked for more than|soft lockup|hard LOCKUP"
complaints="$complaints|Bad page|Bad rss-counter|bad page map|refcount_t|scheduling while atomic"
complaints="$complaints|sleeping function|unable to handle"
harmless='loading out-of-tree|module verification failed'

# own_races - a filter: drops KCSAN's reports of races in which the module has no part
own_races()
{
	awk '
	/BUG: KCSAN:/ { held = 1; text = "" }
	!held { print; next }
	{ text = text $0 "\n"; ours = ours || /\[postcopy\]/ }
	/={20}/ { if (ours) printf "%s", text; held = ours = 0 }'
}

# first_complaint FILE LINES - the first complaint in a kernel log, with so many lines after it;
# fails if there is none
first_complaint()
{
	own_races < "$1" | grep -vE "$harmless|$emulator_noise" | grep -m 1 -E -A "$2" "$complaints"
}
