// SPDX-License-Identifier: GPL-2.0
/* What the guest without an operating system needs of QEMU's arm64 machine "virt" */
#include "bare.h"

/* QEMU puts the device tree at the start of RAM if a program that is no Linux leaves room there. */
#define DEVICE_TREE	((const char *)0x40000000)
#define UART_DATA	((volatile uint32_t *)0x09000000)
#define PSCI_CPU_ON	0xc4000003UL

#define FDT_BEGIN_NODE	1
#define FDT_END_NODE	2
#define FDT_PROP	3
#define FDT_NOP		4

void port_write(const char *text, size_t length)
{
	/* QEMU takes a character at once, so nobody has to ask whether there is room. */
	while (length--)
		*UART_DATA = *text++;
}

uint64_t clock_ms(void)
{
	uint64_t ticks, frequency;

	asm volatile("mrs %0, cntvct_el0" : "=r" (ticks));
	asm volatile("mrs %0, cntfrq_el0" : "=r" (frequency));
	return ticks / (frequency / 1000);
}

void cpu_relax(void)
{
	asm volatile("yield" ::: "memory");
}

unsigned int cpus_start(void)
{
	unsigned int cpu;

	/* QEMU counts processors in the lowest byte. PSCI refuses one that is not there. */
	for (cpu = 1; cpu < MAX_CPUS; cpu++) {
		register unsigned long x0 asm("x0") = PSCI_CPU_ON;
		register unsigned long x1 asm("x1") = cpu;
		register unsigned long x2 asm("x2") = (unsigned long)cpu_enter;
		register unsigned long x3 asm("x3") = cpu;

		asm volatile("hvc #0" : "+r" (x0), "+r" (x1), "+r" (x2), "+r" (x3) :: "memory");
		if (x0)
			break;
	}
	return cpu;
}

/* Numbers in a device tree are big endian. */
static uint32_t tree_word(const char *at)
{
	return __builtin_bswap32(*(const uint32_t *)at);
}

static size_t tree_aligned(size_t length)
{
	return (length + 3) & ~3UL;
}

static size_t text_length(const char *text)
{
	size_t length = 0;

	while (text[length])
		length++;
	return length;
}

/* Only the node "chosen" has this property. */
static const char *tree_command_line(const char *tree)
{
	const char *at = tree + tree_word(tree + 8), *strings = tree + tree_word(tree + 12);
	static const char wanted[] = "bootargs";

	for (;;) {
		uint32_t token = tree_word(at);
		const char *name;
		size_t i = 0;

		at += 4;
		switch (token) {
		case FDT_BEGIN_NODE:
			at += tree_aligned(text_length(at) + 1);
			continue;
		case FDT_END_NODE:
		case FDT_NOP:
			continue;
		case FDT_PROP:
			name = strings + tree_word(at + 4);
			while (i < sizeof(wanted) && name[i] == wanted[i])
				i++;
			if (i == sizeof(wanted))
				return at + 8;
			at += 8 + tree_aligned(tree_word(at));
			continue;
		default:
			return "";
		}
	}
}

void machine_run(void)
{
	guest_run(tree_command_line(DEVICE_TREE));
}
