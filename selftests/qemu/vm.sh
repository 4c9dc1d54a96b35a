#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Runs one command in a virtual machine that has this machine's files.
#
# The guest's root is this machine's root directory, read only over 9p, under a
# tmpfs: every installed program and this tree are there, and nothing the command
# does is left behind, except what it writes to /out. init.c is its first process.
# The exit status is the command's; 124: it took too long; 125: the VM died.

set -euo pipefail
export PATH="$PATH:/usr/sbin:/sbin"

usage()
{
	cat <<-END
	usage: vm.sh [options] -- command [args]
	  --kernel K      6.1 (default), 6.12, debug, kcsan, a release name or the path of a
	                  bzImage
	  --modules DIR   DIR/lib/modules/RELEASE has its modules
	  --smp N         processors (2)
	  --mem SIZE      memory (2G)
	  --timeout S     seconds until it is killed (300)
	  --icount        count instructions: the guest's clock advances 1 ns with each
	  --interactive   connect the terminal
	  --out DIR       directory that is /out in the guest, for results
	  --append ARGS   more kernel arguments
	  --boots N       tries, if QEMU's emulation kills it (4); from the third on with one
	                  thread for all processors
	END
}

here=$(cd "$(dirname "$0")" && pwd)
scripts=$here/../../scripts
kernel=6.1
modules=
smp=2
mem=2G
timeout=300
icount=
interactive=
out=
append=
# When QEMU 7.2's TCG runs several vCPUs in threads, Linux 6.12 patching its own code
# early in boot sometimes dies of it, before init. That is no verdict on anything.
boots=4

while [ $# -gt 0 ]; do
	case $1 in
	--kernel) kernel=$2; shift ;;
	--modules) modules=$2; shift ;;
	--smp) smp=$2; shift ;;
	--mem) mem=$2; shift ;;
	--timeout) timeout=$2; shift ;;
	--out) out=$2; shift ;;
	--append) append=$2; shift ;;
	--boots) boots=$2; shift ;;
	--icount) icount=y ;;
	--interactive) interactive=y ;;
	--help) usage; exit 0 ;;
	--) shift; break ;;
	*) usage >&2; exit 125 ;;
	esac
	shift
done
[ $# -gt 0 ] || { usage >&2; exit 125; }

release=$("$scripts/kernel.sh" "$kernel" release) || exit 125
image=$("$scripts/kernel.sh" "$kernel" image) || exit 125
[ "$modules" ] || modules=$("$scripts/kernel.sh" "$kernel" root 2>/dev/null) || modules=

tmp=$(mktemp -d /tmp/postcopy-vm.XXXXXX)
trap 'rm -rf "$tmp"' EXIT
[ "$out" ] || out=$tmp/out
mkdir -p "$out"
out=$(cd "$out" && pwd)

# The modules the guest needs to reach its root, in the order of loading.
boot_modules()
{
	local name

	[ "$modules" ] || return 0
	for name in virtio_pci 9pnet_virtio 9p overlay; do
		modprobe -d "$modules" -S "$release" --show-depends "$name" 2>/dev/null ||
			continue
	done | awk '$1 == "insmod" && !seen[$2]++ { print $2 }'
}

make_initramfs()
{
	local dir=$tmp/initramfs n=100 file

	mkdir -p "$dir/modules"
	cp "$here/init" "$dir/init"
	for file in $(boot_modules); do
		n=$((n + 1))
		case $file in
		*.xz) xz -dc "$file" > "$dir/modules/$n" ;;
		*.zst) zstd -qdc "$file" > "$dir/modules/$n" ;;
		*) cp "$file" "$dir/modules/$n" ;;
		esac
	done
	{
		printf '%s\0' "$PWD"
		printf '%s\0' "$@"
	} > "$dir/command"
	(cd "$dir" && find . | cpio --quiet -o -H newc) > "$tmp/initramfs.cpio"
}

make -s -C "$here" || exit 125
# There HOME is root's: kernel.sh shall find the same kernels as here.
make_initramfs env "POSTCOPY_CACHE=${POSTCOPY_CACHE:-$HOME/.cache/postcopy}" "$@"

cmdline="console=ttyS0 loglevel=5 panic=-1 oops=panic log_buf_len=16M"
# TCG keeps a translation of code for each address at which a process has it. With random ones a
# page of the C library has as many as there were processes, and when it is used for data, each
# store to it looks through all of them: after 500 s of tests 1.5 ms for each byte, for a minute.
cmdline="$cmdline nokaslr norandmaps"
cmdline="$cmdline mitigations=off no_timer_check tsc=nowatchdog audit=0"
# A vCPU that TCG or its host has left standing for 25 s is no lock-up; a real one ends none
# of these times, and no test program takes as long.
cmdline="$cmdline watchdog_thresh=30 rcupdate.rcu_cpu_stall_timeout=60"
if [ "$interactive" ]; then
	# Rows and columns: a serial line does not pass them on.
	size=$(stty size 2>/dev/null) || size=
	cmdline="$cmdline vm.interactive=${size/ /x}"
fi
case $kernel in
debug|kcsan)
	# QEMU's tables of interrupt routes are a program that takes longer here than
	# the 30 s that ACPI gives it, twice: the MP table has them too.
	cmdline="$cmdline acpi=noirq"
	;;
esac
if [ "$modules" ] && [ "$modules" != / ]; then
	cmdline="$cmdline vm.modules=$(cd "$modules" && pwd)/lib/modules"
fi

qemu=(qemu-system-x86_64 -nodefaults -no-user-config -no-reboot -display none
	-machine pc -m "$mem" -nic none -d cpu_reset -D "$out/reset.log"
	-kernel "$image" -initrd "$tmp/initramfs.cpio" -append "$cmdline $append"
	-virtfs "local,path=/,mount_tag=host,security_model=none,readonly=on,multidevs=remap"
	-virtfs "local,path=$out,mount_tag=out,security_model=none"
	-serial "file:$out/console.log"
	-chardev "stdio,id=command,signal=off" -serial chardev:command)
if [ "$icount" ]; then
	# A guest in which each `rep movsb` counts as thousands of instructions
	# would measure copies only.
	accel=tcg,thread=single
	qemu+=(-icount "shift=0,sleep=off" -smp 1 -cpu "max,-erms,-fsrm")
else
	accel=tcg
	qemu+=(-smp "$smp" -cpu max)
fi

# Ways in which QEMU 7.2's TCG kills a kernel that has done nothing wrong, also after the
# boot. One vCPU rewrites code and another goes on to see the breakpoint that stood there
# for a moment: nothing else makes an int3 of a kernel, whoever is in the trace.
patching_fault='Oops: int3'
# An interrupt taken between #VMEXIT and STGI, where the GS of the host is not loaded yet:
# its handler faults until the stack is full. A trace with the module in it is never that.
stack_faults='stack guard page was hit|corrupted stack end|emulator has spoilt'
emulator_failed()
{
	grep -q "$patching_fault" "$out/console.log" || {
		grep -qE "$stack_faults" "$out/console.log" &&
			! grep -E -A 200 "$stack_faults" "$out/console.log" | grep -q '\[postcopy\]'
	}
}

deadline=$((SECONDS + timeout))
for ((boot = 1; boot <= boots; boot++)); do
	rm -f "$out/started" "$out/status" "$out/console.log"
	left=$((deadline - SECONDS))
	[ "$left" -gt 0 ] || break
	# Slower, but there one vCPU cannot see what another is in the middle of.
	[ "$boot" -le 2 ] || accel=tcg,thread=single
	if [ "$interactive" ]; then
		timeout --foreground -k 5 "$left" "${qemu[@]}" -accel "$accel" || true
	else
		timeout -k 5 "$left" "${qemu[@]}" -accel "$accel" < /dev/null || true
	fi
	if [ -s "$out/status" ]; then
		[ "$(cat "$out/status")" -ne 0 ] || break
		emulator_failed || break
	elif [ -e "$out/started" ]; then
		emulator_failed || break
	fi
	cp "$out/console.log" "$out/console.$boot.log"
	echo "# vm.sh: $release died of QEMU's emulation: starting again (boot $boot of $boots)"
done

if [ -s "$out/status" ]; then
	exit "$(cat "$out/status")"
fi
# The traces of processes that a test has killed for lack of memory say nothing of the end.
sed '/invoked oom-killer/,/<\/TASK>/d' "$out/console.log" 2>/dev/null | tail -n 60 >&2 || true
grep -m 1 'Triple fault' "$out/reset.log" >&2 2>/dev/null || true
if [ "$SECONDS" -ge "$deadline" ]; then
	echo "vm.sh: $release: timeout after $timeout s" >&2
	exit 124
fi
if emulator_failed; then
	echo "vm.sh: $release: the VM died of QEMU's emulation" >&2
else
	echo "vm.sh: $release: the VM died" >&2
fi
exit 125
