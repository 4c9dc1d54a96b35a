// SPDX-License-Identifier: GPL-2.0
/*
 * Keeps a virtual machine that never runs, so that KVM leaves its code as it is.
 *
 * KVM has static keys: code that it rewrites in place when the first virtual machine comes, when a
 * guest switches its local APIC on or off (a second later: a guest that has just arrived does so),
 * and when the last virtual machine goes. While there is a virtual CPU here whose APIC is off, no
 * key changes. Why that matters: see "patching" in emulator.sh.
 *
 * Prints "ready" and stays until it is killed.
 */
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <string.h>
#include <errno.h>
#include <sys/ioctl.h>
#include <unistd.h>

static int must(int ret, const char *what)
{
	if (ret < 0) {
		fprintf(stderr, "kvm_hold: %s: %s\n", what, strerror(errno));
		_exit(1);
	}
	return ret;
}

int main(void)
{
	int kvm = must(open("/dev/kvm", O_RDWR | O_CLOEXEC), "/dev/kvm");
	int vm = must(ioctl(kvm, KVM_CREATE_VM, 0), "KVM_CREATE_VM");

	must(ioctl(vm, KVM_CREATE_IRQCHIP, 0), "KVM_CREATE_IRQCHIP");
	must(ioctl(vm, KVM_CREATE_VCPU, 0), "KVM_CREATE_VCPU");
	puts("ready");
	fflush(stdout);
	for (;;)
		pause();
}
