#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Runs the benchmarks in test VMs and prints one table; build/bench/bench.json has it
# for programs. The rows in instructions come from a VM that counts them, the others
# from one with four processors, and mean nothing if the machine has other work.
#
# usage: run.sh --kernel "KERNEL..." [--check | --record] [NAME]...
#	--check   short, rows in instructions only, and compare with recorded.json
#	--record  the same, and write recorded.json

set -u
cd "$(dirname "$0")/../.." || exit 1

kernels=
short=
compare=()
while [ $# -gt 0 ]; do
	case $1 in
	--kernel) kernels=$2; shift ;;
	--check) short=--short; compare=(--check selftests/bench/recorded.json) ;;
	--record) short=--short; compare=(--record selftests/bench/recorded.json) ;;
	*) break ;;
	esac
	shift
done
names=("$@")
[ "$kernels" ] || { echo 'run.sh: say which kernels, as make bench does: --kernel "6.1 7.3"' >&2; exit 2; }
[ $# -gt 0 ] || names=(demand bulk shared converted scale threads pull migrate)

results=build/bench
mkdir -p "$results"
rm -f "$results"/*.log
failed=0

# vm KERNEL CLOCK NAME VM-OPTION... - one benchmark in a VM of its own
vm()
{
	local kernel=$1 clock=$2 name=$3 log=$results/$1.$3.log
	shift 3

	echo "# kernel $kernel" > "$log"
	selftests/qemu/vm.sh --kernel "$kernel" --mem 4G --timeout 900 "$@" -- \
		sh -c "ip link set lo up && mount -t tmpfs none /dev/shm && insmod \$POSTCOPY_BUILD/$kernel/drivers/postcopy/postcopy.ko && \
			\$POSTCOPY_BUILD/selftests/bench $short --clock $clock $name" \
		>> "$log" 2>&1 || {
		echo "not ok - bench.$kernel.$name"
		tail -n 20 "$log" | sed 's/^/# /'
		failed=1
	}
}

# migrate_vm KERNEL - stock QEMUs with KVM inside the VM, whose guests boot in it. Rounds that are done
# stay in /out, so each boot goes on where a void one ended; hence more boots than usual.
migrate_vm()
{
	local kernel=$1 log=$results/$1.migrate.log out=$results/$1.migrate

	rm -rf "$out"
	echo "# kernel $kernel" > "$log"
	selftests/qemu/vm.sh --kernel "$kernel" --mem 5G --timeout 900 --boots 24 --out "$out" -- \
		sh -c "ip link set lo up && mount -t tmpfs none /dev/shm && \
			insmod \$POSTCOPY_BUILD/$kernel/drivers/postcopy/postcopy.ko && \
			ROWS='${ROWS-}' ROUNDS='${ROUNDS-}' selftests/bench/migrate.sh" >> "$log" 2>&1 || {
		echo "not ok - bench.$kernel.migrate"
		tail -n 20 "$log" | sed 's/^/# /'
		failed=1
	}
}

for kernel in $kernels; do
	for name in "${names[@]}"; do
		case $name in
		threads)
			# Our faults read the clock. Without this 6.1 reads the HPET, a device of QEMU's.
			[ "$short" ] || vm "$kernel" wall "$name" --smp 4 --append tsc=reliable
			;;
		migrate)
			[ "$short" ] || migrate_vm "$kernel"
			;;
		pull)
			[ "$short" ] || vm "$kernel" instructions "$name" --icount
			;;
		*)
			vm "$kernel" instructions "$name" --icount
			;;
		esac
	done
done
selftests/bench/table.py --json "$results/bench.json" "${compare[@]}" "$results"/*.log || failed=1
exit "$failed"
