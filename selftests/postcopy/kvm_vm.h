/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A virtual machine of one vCPU without a monitor: its program, in CODE_PAGE of its memory, reads a
 * byte of DATA_PAGE and says it.
 */
#ifndef KVM_VM_H
#define KVM_VM_H

#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "postcopy_test.h"

#define NR_PAGES	16UL
#define CODE_PAGE	1
#define DATA_PAGE	5

struct vm {
	int kvm, vm, vcpu;
	struct kvm_run *run;
};

#if defined(__x86_64__)

/* A kernel thread of KVM's waits for a page, not the thread in KVM_RUN. */
#define KVM_HAS_WORKER	true
#define KVM_MODULES	"modprobe -q kvm_amd || modprobe -q kvm_intel"

/* In real mode: mov al, [0x5000]; out 0x10, al; hlt */
static const uint8_t vm_code[] = { 0xa0, 0x00, 0x50, 0xe6, 0x10, 0xf4 };

/* With it a worker waits, without it the vCPU does. */
static int vm_prepare(struct vm *vm)
{
	return ioctl(vm->vm, KVM_CREATE_IRQCHIP) ? -errno : 0;
}

static int vm_set_registers(struct vm *vm)
{
	/* With interrupts off a vCPU waits by itself. */
	struct kvm_regs regs = { .rip = CODE_PAGE * PAGE, .rflags = 0x202 };
	struct kvm_sregs sregs;

	if (ioctl(vm->vcpu, KVM_GET_SREGS, &sregs))
		return -errno;
	sregs.cs.base = 0;
	sregs.cs.selector = 0;
	return ioctl(vm->vcpu, KVM_SET_SREGS, &sregs) || ioctl(vm->vcpu, KVM_SET_REGS, &regs) ?
	       -errno : 0;
}

static int vm_said(struct vm *vm)
{
	if (vm->run->exit_reason != KVM_EXIT_IO)
		return -EPROTO;
	return ((uint8_t *)vm->run)[vm->run->io.data_offset];
}

/* This is how a VMM resets a vCPU: KVM waits for its workers. */
static int vm_stop_async_faults(struct vm *vm)
{
	struct {
		struct kvm_msrs msrs;
		struct kvm_msr_entry entry;
	} set = {
		.msrs.nmsrs = 1,
		.entry.index = 0x4b564d02,	/* MSR_KVM_ASYNC_PF_EN */
	};

	return ioctl(vm->vcpu, KVM_SET_MSRS, &set) == 1 ? 0 : -errno;
}

#elif defined(__aarch64__)

#define KVM_HAS_WORKER	false
#define KVM_MODULES	"true"

/* No memory is there: a store to it ends KVM_RUN. */
#define DEVICE		(NR_PAGES * 16 * PAGE)

/* With the MMU off: ldrb w0, [x1]; strb w0, [x2]; b . */
static const uint32_t vm_code[] = { 0x39400020, 0x39000040, 0x14000000 };

static int vm_prepare(struct vm *vm)
{
	return 0;
}

static int vm_set_register(struct vm *vm, uint64_t id, uint64_t value)
{
	struct kvm_one_reg reg = {
		.id = KVM_REG_ARM64 | KVM_REG_SIZE_U64 | KVM_REG_ARM_CORE | id,
		.addr = (uintptr_t)&value,
	};

	return ioctl(vm->vcpu, KVM_SET_ONE_REG, &reg) ? -errno : 0;
}

static int vm_set_registers(struct vm *vm)
{
	struct kvm_vcpu_init init;

	if (ioctl(vm->vm, KVM_ARM_PREFERRED_TARGET, &init) ||
	    ioctl(vm->vcpu, KVM_ARM_VCPU_INIT, &init))
		return -errno;
	return vm_set_register(vm, KVM_REG_ARM_CORE_REG(regs.pc), CODE_PAGE * PAGE) ||
	       vm_set_register(vm, KVM_REG_ARM_CORE_REG(regs.regs[1]), DATA_PAGE * PAGE) ||
	       vm_set_register(vm, KVM_REG_ARM_CORE_REG(regs.regs[2]), DEVICE) ? -errno : 0;
}

static int vm_said(struct vm *vm)
{
	if (vm->run->exit_reason != KVM_EXIT_MMIO || !vm->run->mmio.is_write)
		return -EPROTO;
	return vm->run->mmio.data[0];
}

static int vm_stop_async_faults(struct vm *vm)
{
	return -ENOSYS;
}

#endif

/* Its memory is NR_PAGES pages at @memory. Return: 0 or -errno. */
static int vm_make(struct vm *vm, void *memory)
{
	struct kvm_userspace_memory_region slot = {
		.memory_size = NR_PAGES * PAGE,
		.userspace_addr = (uintptr_t)memory,
	};
	int ret;

	vm->kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (vm->kvm < 0)
		return -errno;
	vm->vm = ioctl(vm->kvm, KVM_CREATE_VM, 0);
	if (vm->vm < 0)
		return -errno;
	ret = vm_prepare(vm);
	if (ret)
		return ret;
	if (ioctl(vm->vm, KVM_SET_USER_MEMORY_REGION, &slot))
		return -errno;
	vm->vcpu = ioctl(vm->vm, KVM_CREATE_VCPU, 0);
	if (vm->vcpu < 0)
		return -errno;
	vm->run = mmap(NULL, ioctl(vm->kvm, KVM_GET_VCPU_MMAP_SIZE, 0), PROT_READ | PROT_WRITE,
		       MAP_SHARED, vm->vcpu, 0);
	if (vm->run == MAP_FAILED)
		return -errno;
	return vm_set_registers(vm);
}

/* Return: the byte that the guest says, or -errno. */
static int vm_run(struct vm *vm)
{
	return ioctl(vm->vcpu, KVM_RUN, 0) ? -errno : vm_said(vm);
}

static bool have_kvm(void)
{
	return !system(KVM_MODULES) && !access("/dev/kvm", R_OK);
}

#endif
