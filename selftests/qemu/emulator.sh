# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0
#
# The faults of QEMU's emulator (TCG of QEMU 7.2) and the decision whether a VM died of one of
# them. No other file describes these faults or looks for them. Sourced by vm.sh on the host, and
# by run.sh and the scenarios inside the test VM.
#
# A run of a VM that died of the emulator is void: it says nothing about the module, neither good
# nor bad. vm.sh then boots again. A run is void only if the evidence below names the fault and
# no test of that run had printed "not ok": a failed assertion is final. So is a complaint of the
# kernel that this file does not name, and so is a VM that hangs until its time is over.
#
# The faults, by the names that `make test` counts:
#
# patching	TCG does not always notice that a kernel has rewritten its own code. Linux puts a
#		breakpoint (int3) where it is going to write. A vCPU may run into a breakpoint that
#		is long gone. It dies of it ("Oops: int3"), or takes it again for ever: then a lock-up
#		or stall is reported with asm_exc_int3 in its trace. Nothing else makes an int3 in a
#		kernel, so it does not matter which functions are in the trace.
#		What lessens it:
#		- One thread for all vCPUs: no vCPU can run while another is writing (emulator_accel).
#		- kvm_hold.c: KVM rewrites some 50 places in the course of one migration, whenever the
#		  first VM comes, the last one goes, or a guest switches its local APIC on or off.
#		  With one VM that stays and has its APIC off, it rewrites 17, none of them while
#		  guests run.
#		- Tests switch trace events on before anything runs, and without record-cmd, which
#		  rewrites the scheduler: a VM died of that in __schedule().
# svm_stack	TCG's SVM may take an interrupt between #VMEXIT and STGI, where the host's GS is not
#		loaded yet. The handler faults until its stack is full ("stack guard page was hit",
#		"corrupted stack end"). If the module is in the trace, the module is to blame.
# spoilt_vcpu	The same moment, the other way round: an interrupt in the middle of VMRUN, and TCG
#		stores registers of the host as those of the guest. The guest then runs at an address
#		of kvm_amd.ko. Guests that load no modules have no code there. A guest without an operating
#		system reports an exception at that address.
# triple_fault	A vCPU of the VM meets three faults in a row while guests run. QEMU's log of resets
#		says so; the kernel has no time to say anything.
# silent	The VM ends while guests run in it, and neither kernel nor QEMU says why. In a VM with
#		guests this happens every few minutes.
# no_source	The source guest does not come up. It runs on a stock QEMU and KVM, and the module does
#		not touch it before it has started. A source whose QEMU has ended is
#		a failure, not void.
# boot		The VM ends before its first process has started. Usually that is "patching" without a
#		message: 6.12 rewrites much of itself early in boot.
# qemu_killed	QEMU was ended by a signal, so the host ended it or QEMU crashed.
# no_round	For benchmarks only: a guest stood still or began anew, so a round was not measured.
#
# Two more faults are worked around and are never a reason for void:
#
# lost interrupts	TCG loses an interrupt that comes while a vCPU leaves its guest: cpu_vmexit()
#		changes interrupt_request without the lock under which the others set bits there. A vCPU
#		that loses its timer's interrupt sleeps for ever, unless another interrupt comes: then it
#		gets both. So init.c wakes each processor from another one all the time.
# translations	TCG keeps a translation of code for each virtual address at which a process has it.
#		With random addresses a page of the C library has as many as there were processes, and a
#		store to that page, once it is used for data, looks through all of them: 1.5 ms for each
#		byte after 500 s of tests. So programs have no random addresses (norandmaps).

# The exit status of vm.sh, and of a command inside the VM, that says: void
emulator_void_status=123

# How often vm.sh boots before it gives up with the status above. With Linux in its guests the worst
# scenario, snapshot on 6.1, was void 5 times of 7: it meets ten void runs in a row 3 times in 100,
# the others hardly ever.
# shellcheck disable=SC2034 # for vm.sh
emulator_boots=10

# How many void runs a whole run of the tests may have: two for each of the five runs of scenarios for
# x86. A run with more says more about the emulator than about the module.
# shellcheck disable=SC2034 # for test.sh
emulator_voids_allowed=10

# Lines of the kernel log that say only that an emulated clock depends on the host's scheduler
# shellcheck disable=SC2034 # for kernel_log.sh
emulator_noise='clocksource|hrtimer: interrupt took'

# shellcheck source=selftests/lib/kernel_log.sh
. "$(dirname "${BASH_SOURCE[0]}")/../lib/kernel_log.sh"

# emulator_accel BOOT - the argument of -accel. Multithreaded TCG is faster, so the first two boots
# have it.
emulator_accel()
{
	if [ "$1" -le 2 ]; then
		echo tcg
	else
		echo tcg,thread=single
	fi
}

# emulator_kernel_arguments KERNEL
emulator_kernel_arguments()
{
	# The host may leave a vCPU standing for 25 s: that is no lock-up. A real one lasts longer
	# than these limits, and no test program takes as long.
	echo nokaslr norandmaps no_timer_check tsc=nowatchdog \
		watchdog_thresh=30 rcupdate.rcu_cpu_stall_timeout=60
	case $1 in
	debug|debug-*|kcsan)
		# ACPI's tables of interrupt routes are a program of QEMU's. On these kernels it runs
		# longer than the 30 s that ACPI gives it, twice. The MP table has the same routes.
		echo acpi=noirq
		;;
	esac
}

# emulator_guests_run - called inside the VM before it runs guests
emulator_guests_run()
{
	[ ! -d /out ] || : > /out/guests
}

# emulator_void FAULT TEXT - called inside the VM: ends the command, which is void
emulator_void()
{
	echo "# void: $1: $2"
	[ ! -d /out ] || echo "$1" > /out/void
	exit "$emulator_void_status"
}

# emulator_complaint_fault FILE - prints the fault that the complaint in FILE is a sign of
emulator_complaint_fault()
{
	if grep -qE 'Oops: int3|asm_exc_int3' "$1"; then
		echo patching
	elif grep -qE 'stack guard page was hit|corrupted stack end' "$1" && ! grep -q '\[postcopy\]' "$1"; then
		echo svm_stack
	else
		return 1
	fi
}

# emulator_registers_fault FILE - the same, of the registers of a guest that loads no modules, as
# QEMU's "info registers -a" prints them, or of the exception it has reported
emulator_registers_fault()
{
	grep -qE 'RIP=ffffffffc|exception .* at 0xffffffffc' "$1" && echo spoilt_vcpu
}

# emulator_fault DIR QEMU-STATUS TIMED-OUT - prints the fault of which the VM with this --out
# directory died; fails if what it has done or said is final. TIMED-OUT is y or empty.
emulator_fault()
{
	local dir=$1 qemu_status=$2 timed_out=$3 fault

	! grep -q '^not ok' "$dir/output" 2>/dev/null || return 1
	if [ -s "$dir/status" ]; then
		[ "$(< "$dir/status")" -eq "$emulator_void_status" ] && [ -s "$dir/void" ] && cat "$dir/void"
		return
	fi
	if first_complaint "$dir/console.log" 200 > "$dir/complaint"; then
		emulator_complaint_fault "$dir/complaint"
		return
	fi
	[ ! "$timed_out" ] || return 1
	if [ "$qemu_status" -ge 128 ]; then
		fault=qemu_killed
	elif [ ! -e "$dir/started" ]; then
		fault=boot
	elif [ ! -e "$dir/guests" ]; then
		return 1
	elif grep -q 'Triple fault' "$dir/reset.log" 2>/dev/null; then
		fault=triple_fault
	else
		fault=silent
	fi
	echo "$fault"
}
