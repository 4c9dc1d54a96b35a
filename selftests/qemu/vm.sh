#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Runs one command in a virtual machine that has this machine's files.
#
# The guest's root is this machine's root directory, read only over 9p, under a
# tmpfs: every installed program and this tree are there, and nothing the command
# does is left behind, except what it writes to /out. init.c is its first process.
# With ARCH= another architecture or DEBIAN= another release the root is the one that
# foreign.sh or debian.sh has made, and this tree and the cache are mounted in it where
# they are here.
#
# The exit status is the command's, or
#	123	void: each boot ended by a fault of the emulator (emulator.sh decides)
#	124	the command took too long
#	125	the VM died, or could not be started
#
# A boot that is void is followed by another one. If VM_VOIDS names a file, a line for
# each void boot is added to it: VM_NAME FAULT SECONDS.

set -euo pipefail
export PATH="$PATH:/usr/sbin:/sbin"

here=$(cd "$(dirname "$0")" && pwd)
scripts=$here/../../scripts
# shellcheck source=selftests/qemu/emulator.sh
. "$here/emulator.sh"

usage()
{
	cat <<-END
	usage: vm.sh [options] -- command [args]
	  --kernel K      6.1 (default), 6.12, debug, kcsan, a release name or the path of a
	                  bzImage
	  --modules DIR   DIR/lib/modules/RELEASE has its modules
	  --smp N         processors (2)
	  --mem SIZE      memory in MiB or GiB (2G)
	  --nodes N       NUMA nodes (1)
	  --timeout S     seconds for one boot (300)
	  --icount        count instructions: the guest's clock advances 1 ns with each
	  --interactive   connect the terminal
	  --out DIR       directory that is /out in the guest, for results
	  --append ARGS   more kernel arguments
	  --boots N       give up when so many boots in a row are void ($emulator_boots)
	ACCEL=tcg or ACCEL=kvm chooses the accelerator: see accel.sh.
	END
}

kernel=6.1
modules=
smp=2
mem=2G
nodes=1
timeout=300
icount=
interactive=
out=
append=
boots=$emulator_boots

while [ $# -gt 0 ]; do
	case $1 in
	--kernel) kernel=$2; shift ;;
	--modules) modules=$2; shift ;;
	--smp) smp=$2; shift ;;
	--mem) mem=$2; shift ;;
	--nodes) nodes=$2; shift ;;
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

export DEBIAN=${DEBIAN-$("$scripts/kernel.sh" "$kernel" debian)}
# shellcheck source=scripts/arch.sh
. "$scripts/arch.sh"
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
	cp "$programs/init" "$dir/init"
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

kernel_arguments()
{
	local size i

	echo loglevel=5 panic=-1 oops=panic log_buf_len=16M mitigations=off audit=0
	[ "$accel" != tcg ] || emulator_kernel_arguments "$kernel"
	if [ "$interactive" ]; then
		# Rows and columns: a serial line does not pass them on.
		size=$(stty size 2>/dev/null) || size=
		echo "vm.interactive=${size/ /x}"
	fi
	if [ "$modules" ] && [ "$modules" != "$root" ]; then
		echo "vm.modules=$(cd "$modules" && pwd)/lib/modules"
	fi
	echo "vm.terminal=$terminal"
	for i in "${!shares[@]}"; do
		echo "vm.share$i=${shares[i]}"
	done
	echo "$append"
}

# What is particular to the architecture: program, machine, processor, names of its devices
machine_x86()
{
	qemu=(qemu-system-x86_64 -machine pc -serial "file:$out/console.log" -serial chardev:command)
	console=ttyS0
	terminal=ttyS1
	[ "$nodes" = 1 ] || append="$append numa=fake=$nodes"
	if [ "$icount" ]; then
		# With fast string instructions each `rep movsb` would count as thousands of
		# instructions, and a guest would measure nothing but its copies.
		qemu+=(-cpu "max,-erms,-fsrm")
	elif [ "$accel" = kvm ]; then
		qemu+=(-cpu host)
	else
		qemu+=(-cpu max)
	fi
}

# TCG emulates the hypervisor level of the processor well: KVM runs on it. Pointers are signed with
# QEMU's own algorithm, because the architecture's takes most of the time.
machine_arm64()
{
	local node size

	qemu=(qemu-system-aarch64 -serial "file:$out/console.log" -device "pci-serial,chardev=command")
	console=ttyAMA0
	terminal=ttyS0
	if [ "$accel" = kvm ]; then
		qemu+=(-machine "virt,gic-version=host" -cpu host)
	else
		qemu+=(-machine "virt,gic-version=3,virtualization=on" -cpu "max,pauth-impdef=on")
	fi
	[ "$nodes" -gt 1 ] || return 0
	size=$(numfmt --from=iec "$mem")
	for ((node = 0; node < nodes; node++)); do
		qemu+=(-object "memory-backend-ram,id=node$node,size=$((size / nodes))"
			-numa "node,memdev=node$node")
	done
}

tree=$(realpath "$scripts/..")
# Another root has neither this tree nor the cache.
shares=()
[ "$root" = / ] || shares=("$tree" "$(realpath "$cache")")
read_only=security_model=none,readonly=on,multidevs=remap
programs=$tree/$build/selftests
[ "$root" != / ] || make -s -C "$here" || exit 125
[ -x "$programs/init" ] || { echo "vm.sh: no $programs/init: run make selftests" >&2; exit 125; }
accel=tcg
[ "$icount" ] || accel=$("$here/accel.sh" "$image" 2>"$tmp/accel") || { cat "$tmp/accel" >&2; exit 125; }
# In the guest HOME is root's: kernel.sh shall find the same kernels as here.
make_initramfs env "POSTCOPY_CACHE=$cache" "POSTCOPY_BUILD=$build" "POSTCOPY_UMIG=$umig_dir" \
	"POSTCOPY_KERNELS=$kernel_dir" "$@"

"machine_$arch"
qemu+=(-nodefaults -no-user-config -no-reboot -display none
	-m "$mem" -nic none -d cpu_reset -D "$out/reset.log"
	-kernel "$image" -initrd "$tmp/initramfs.cpio"
	-append "console=$console $(kernel_arguments | tr '\n' ' ')"
	-virtfs "local,path=$root,mount_tag=host,$read_only"
	-virtfs "local,path=$out,mount_tag=out,security_model=none"
	-chardev "stdio,id=command,signal=off")
for i in "${!shares[@]}"; do
	qemu+=(-virtfs "local,path=${shares[i]},mount_tag=share$i,$read_only")
done
if [ "$icount" ]; then
	qemu+=(-icount "shift=0,sleep=off" -smp 1)
else
	qemu+=(-smp "$smp")
fi

# run_qemu ACCEL - one boot; the command's output is in $out/output as well
run_qemu()
{
	if [ "$interactive" ]; then
		timeout --foreground -k 5 "$timeout" "${qemu[@]}" -accel "$1"
	else
		timeout -k 5 "$timeout" "${qemu[@]}" -accel "$1" < /dev/null | tee "$out/output"
		return "${PIPESTATUS[0]}"
	fi
}

fault=
for ((boot = 1; boot <= boots; boot++)); do
	rm -f "$out"/{started,status,guests,void,output,console.log,reset.log}
	argument=$accel
	if [ "$icount" ]; then
		argument=tcg,thread=single
	elif [ "$accel" = tcg ]; then
		argument=$(emulator_accel "$boot")
	fi
	begin=$SECONDS
	qemu_status=0
	run_qemu "$argument" || qemu_status=$?
	seconds=$((SECONDS - begin))
	timed_out=
	[ "$seconds" -lt "$timeout" ] || timed_out=y
	# KVM is not the emulator: what happens there is final.
	if [ "$accel" != tcg ] || ! fault=$(emulator_fault "$out" "$qemu_status" "$timed_out"); then
		fault=
		break
	fi
	for file in console.log output; do
		[ ! -e "$out/$file" ] || mv "$out/$file" "$out/void.$boot.$file"
	done
	[ ! "${VM_VOIDS-}" ] || echo "${VM_NAME:-$release} $fault $seconds" >> "$VM_VOIDS"
	echo "# vm.sh: $release: boot $boot of $boots is void after $seconds s: $fault" >&2
done

if [ "$fault" ]; then
	echo "vm.sh: $release could not be run: $boots boots in a row were void" >&2
	exit "$emulator_void_status"
fi
if [ -s "$out/status" ]; then
	status=$(< "$out/status")
	# Of a command that says void without evidence, or after a failure, the failure counts.
	[ "$status" -ne "$emulator_void_status" ] || status=1
	exit "$status"
fi
# The traces of processes that a test has killed for lack of memory do not explain the end.
sed '/invoked oom-killer/,/<\/TASK>/d' "$out/console.log" 2>/dev/null | tail -n 60 >&2 || true
grep -m 1 'Triple fault' "$out/reset.log" >&2 2>/dev/null || true
if [ "$timed_out" ]; then
	echo "vm.sh: $release: timeout after $timeout s" >&2
	exit 124
fi
echo "vm.sh: $release: the VM died" >&2
exit 125
