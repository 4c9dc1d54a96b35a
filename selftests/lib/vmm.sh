# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0
#
# For test scripts with QEMUs and umig, sourced after tap.sh: starts them and asks them.
#
# The QEMU called NAME has two QMP sockets, $tmp/NAME.qmp for umig and $tmp/NAME.test for qmp(),
# because a socket serves one client at a time. Its process is $NAME_pid, its log $tmp/NAME.log.

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
# shellcheck source=scripts/arch.sh
. "$top/scripts/arch.sh"
umig=$top/$umig_dir/umig
# The program that recv_start runs as `umig recv`
receiver=$umig
# Words in front of umig's, e.g. to run it in another network
on_source=
on_destination=
# QEMU, its machine and that machine's serial port
# shellcheck disable=SC2034 # vmm_console: for scenario.sh
case $arch in
x86)
	vmm_qemu=qemu-system-x86_64
	vmm_machine=pc
	vmm_console=ttyS0
	;;
arm64)
	vmm_qemu=qemu-system-aarch64
	vmm_machine=virt,gic-version=max
	vmm_console=ttyAMA0
	;;
esac
# Of a guest's RAM
vmm_size=64M
vmm_backend="memory-backend-file"

# vmm_start NAME MEMORY [OPTION]... - MEMORY are the options of the memory backend
vmm_start()
{
	local name=$1 memory=$2
	shift 2

	rm -f "$tmp/$name".{qmp,test,log}
	"$vmm_qemu" -name "$name" -nodefaults -no-user-config -display none \
		-m "$vmm_size" -object "$vmm_backend,id=ram,size=$vmm_size,$memory" \
		-machine "$vmm_machine,memory-backend=ram" \
		-qmp "unix:$tmp/$name.qmp,server=on,wait=off" \
		-qmp "unix:$tmp/$name.test,server=on,wait=off" \
		"$@" >"$tmp/$name.log" 2>&1 &
	printf -v "${name}_pid" %s $!
	within 60 vmm_answers "$name"
}

# vmm_kill NAME...
vmm_kill()
{
	local name pid

	for name; do
		pid=${name}_pid
		end KILL "${!pid-}"
	done
}

# qmp NAME COMMAND [ARGUMENTS] - one QMP command, prints the answer. The connection stays until the
# answer is there, because QEMU drops the command of a client that has gone.
qmp()
{
	local answers=$tmp/$1.answers

	: >"$answers"
	# shellcheck disable=SC2094 # read as it grows
	{
		printf '{"execute":"qmp_capabilities"}{"execute":"%s"%s}\n' "$2" "${3:+,\"arguments\":$3}"
		# QEMU ignores an empty line. If socat has ended, writing it ends this loop.
		until has_answers "$answers" 2 || ! echo; do sleep 0.05; done
	} | timeout 20 socat -t 0.1 - "UNIX-CONNECT:$tmp/$1.test" >"$answers"
	grep '^{"return"\|^{"error"' "$answers" | sed -n 2p
}

# has_answers FILE NUMBER
has_answers()
{
	[ "$(grep -c '^{"return"\|^{"error"' "$1")" -ge "$2" ]
}

vmm_answers()
{
	[ -S "$tmp/$1.test" ] && qmp "$1" query-status | grep -q '"status"'
}

vmm_runs()
{
	qmp "$1" query-status | grep -q '"running": true'
}

# vmm_is NAME STATE - e.g. running, paused, postmigrate
vmm_is()
{
	qmp "$1" query-status | grep -q "\"status\": \"$2\""
}

# recv_start NAME ADDRESS [OPTION]... - `umig recv` for that QEMU, until it waits for the sender. It
# is $recv_pid and writes to $tmp/recv.out and $tmp/recv.err.
recv_start()
{
	local name=$1 address=$2
	shift 2

	rm -f "$tmp/recv.out" "$tmp/recv.err"
	$on_destination "$receiver" recv --qmp "$tmp/$name.qmp" --listen "$address" "$@" \
		>"$tmp/recv.out" 2>"$tmp/recv.err" &
	recv_pid=$!
	within 60 has_line "$tmp/recv.err" "waiting for the sender"
}

recv_kill()
{
	end KILL "$recv_pid"
}

# send_start NAME ADDRESS [OPTION]... - `umig send`, as $send_pid, to $tmp/send.out and $tmp/send.err
send_start()
{
	local name=$1 address=$2
	shift 2

	rm -f "$tmp/send.out" "$tmp/send.err"
	$on_source "$umig" send --qmp "$tmp/$name.qmp" --to "$address" "$@" \
		>"$tmp/send.out" 2>"$tmp/send.err" &
	send_pid=$!
}

# both_succeed - send and recv
both_succeed()
{
	local recv_status=0 send_status=0

	wait "$recv_pid" || recv_status=$?
	wait "$send_pid" || send_status=$?
	[ "$recv_status" -eq 0 ] && [ "$send_status" -eq 0 ]
}

# serve_start OPTION... - `umig serve`, as $serve_pid, until it has printed the URI, which is $uri
serve_start()
{
	rm -f "$tmp/serve.out" "$tmp/serve.err"
	$on_source "$umig" serve "$@" >"$tmp/serve.out" 2>"$tmp/serve.err" &
	serve_pid=$!
	within 60 has_line "$tmp/serve.out" nbd || return
	# shellcheck disable=SC2034 # for the caller
	uri=$(grep -o 'nbd[^ ]*' "$tmp/serve.out")
}

serve_stop()
{
	end TERM "$serve_pid"
}

# server_start COMMAND... - a page server, as $server_pid, until its socket $tmp/s is there
server_start()
{
	rm -f "$tmp/s" "$tmp/server.log"
	"$@" >"$tmp/server.log" 2>&1 &
	server_pid=$!
	within 60 test -S "$tmp/s"
}

# server_stop [SIGNAL]
server_stop()
{
	end "${1-KILL}" "$server_pid"
}

# region_of PID FIELD - of the region that the process has mapped; if it has none, 0, and it fails
region_of()
{
	"$umig" list --json | jq -e ".[] | select(.pid == $1) | .$2" || { echo 0; return 1; }
}

# present_beyond PID NUMBER - more pages than that are present in its region
present_beyond()
{
	[ "$(region_of "$1" present)" -gt "$2" ]
}
