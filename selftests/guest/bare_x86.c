// SPDX-License-Identifier: GPL-2.0
/* What the guest without an operating system needs of QEMU's x86 machine "pc", with KVM */
#include <stdbool.h>

#include "bare.h"

#define SERIAL_PORT		0x3f8
#define CONFIG_SELECT		0x510	/* QEMU's fw_cfg */
#define CONFIG_DATA		0x511
#define CONFIG_NR_CPUS		5

#define TRAMPOLINE		0x8000
#define APIC_COMMAND		((volatile uint32_t *)0xfee00300)
#define APIC_BUSY		0x1000
/* To all processors but this one */
#define APIC_INIT		0xc4500
#define APIC_STARTUP		0xc4600

#define KVM_FEATURES		0x40000001
#define KVM_FEATURE_CLOCK	(1 << 3)
#define KVM_MSR_CLOCK		0x4b564d01

#define CODE64			0x10
#define TASK_INDEX		4	/* see bare_x86.S */
#define INTERRUPT_GATE		0x8e01	/* with the first stack of struct task */
#define TASK_SEGMENT		(0x89ULL << 40)

/* What a PVH kernel is started with; the rest is of no use here. */
struct start_info {
	uint32_t magic, version, flags, nr_modules;
	uint64_t modules, command_line;
};

/* KVM writes it; while it does, the version is odd. */
struct clock {
	uint32_t version, unused;
	uint64_t tsc, ns;	/* this time at this TSC */
	uint32_t multiplier;
	int8_t shift;
	uint8_t flags, unused_too[2];
};

struct gate {
	uint16_t low, segment, type, middle;
	uint32_t high, unused;
};

/* Of a processor: which stacks it takes for exceptions */
struct task {
	uint32_t unused;
	uint64_t unused_stacks[4], stacks[7], unused_too;
	uint32_t ports;
} __attribute__((packed));

struct exceptions exceptions;

/* It may not lie across two pages. */
static volatile struct clock clock __attribute__((aligned(64)));
static bool has_clock;

static void port_out(uint16_t port, uint16_t value)
{
	asm volatile("outw %0, %1" :: "a" (value), "Nd" (port));
}

static uint8_t port_in(uint16_t port)
{
	uint8_t value;

	asm volatile("inb %1, %0" : "=a" (value) : "Nd" (port));
	return value;
}

/* One instruction for a whole line, because each one leaves the guest. QEMU takes it at once. */
void port_write(const char *text, size_t length)
{
	asm volatile("rep outsb" : "+S" (text), "+c" (length) : "d" (SERIAL_PORT) : "memory");
}

static uint64_t tsc(void)
{
	uint32_t low, high;

	asm volatile("lfence; rdtsc" : "=a" (low), "=d" (high) :: "memory");
	return (uint64_t)high << 32 | low;
}

static uint64_t clock_scaled(uint64_t cycles, uint32_t multiplier)
{
	/* The product has up to 96 bits. */
	return (cycles >> 32) * multiplier + ((cycles & UINT32_MAX) * multiplier >> 32);
}

static bool clock_start(void)
{
	uint32_t a = KVM_FEATURES, b, c, d;
	uint64_t address = (uintptr_t)&clock | 1;

	asm("cpuid" : "+a" (a), "=b" (b), "=c" (c), "=d" (d));
	if (!(a & KVM_FEATURE_CLOCK))
		return false;
	asm volatile("wrmsr" :: "c" (KVM_MSR_CLOCK), "a" ((uint32_t)address),
		     "d" ((uint32_t)(address >> 32)) : "memory");
	return true;
}

uint64_t clock_ms(void)
{
	uint64_t cycles, ns;
	uint32_t version;

	/* Only KVM says how long a cycle is. Without it a millisecond is something near one. */
	if (!has_clock)
		return tsc() >> 21;
	do {
		version = clock.version;
		cycles = tsc() - clock.tsc;
		cycles = clock.shift < 0 ? cycles >> -clock.shift : cycles << clock.shift;
		ns = clock.ns + clock_scaled(cycles, clock.multiplier);
		asm volatile("lfence" ::: "memory");
	} while (version & 1 || version != clock.version);
	return ns / 1000000;
}

void cpu_relax(void)
{
	asm volatile("pause" ::: "memory");
}

static void apic_command(uint32_t command)
{
	*APIC_COMMAND = command;
	while (*APIC_COMMAND & APIC_BUSY)
		cpu_relax();
}

unsigned int cpus_start(void)
{
	unsigned int nr;

	port_out(CONFIG_SELECT, CONFIG_NR_CPUS);
	nr = port_in(CONFIG_DATA);
	__builtin_memcpy((void *)TRAMPOLINE, trampoline, trampoline_length);
	if (nr > 1) {
		apic_command(APIC_INIT);
		apic_command(APIC_STARTUP | TRAMPOLINE >> 12);
	}
	while (cpus_joined < nr - 1)
		cpu_relax();
	return nr;
}

/*
 * Each processor has a stack for exceptions alone. So it can tell of a stack pointer that is wrong,
 * as it is after a fault of the emulator (spoilt_vcpu in emulator.sh), and QEMU need not reset it.
 */
void prepare_exceptions(void)
{
	static char stacks[MAX_CPUS][1024] __attribute__((aligned(16)));
	static struct task tasks[MAX_CPUS];
	static struct gate gates[32];

	for (unsigned int i = 0; i < MAX_CPUS; i++) {
		uint64_t *segment = &segments[TASK_INDEX + 2 * i];
		uintptr_t task = (uintptr_t)&tasks[i];

		tasks[i].stacks[0] = (uintptr_t)stacks[i] + sizeof(stacks[i]);
		tasks[i].ports = sizeof(tasks[i]) << 16;
		segment[0] = TASK_SEGMENT | (sizeof(tasks[i]) - 1) | (task & 0xffffff) << 16 |
			     (task >> 24 & 0xff) << 56;
		segment[1] = task >> 32;
	}

	for (unsigned int i = 0; i < 32; i++) {
		uintptr_t entry = (uintptr_t)exception_entries + i * 16;

		gates[i] = (struct gate) {
			.low = entry, .segment = CODE64, .type = INTERRUPT_GATE,
			.middle = entry >> 16, .high = entry >> 32,
		};
	}
	exceptions.limit = sizeof(gates) - 1;
	exceptions.base = (uintptr_t)gates;
}

void machine_run(const struct start_info *info)
{
	has_clock = clock_start();
	guest_run((const char *)info->command_line);
}
