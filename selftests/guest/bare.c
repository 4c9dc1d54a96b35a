// SPDX-License-Identifier: GPL-2.0
/*
 * The guest without an operating system that is migrated in most scenarios. It does to its
 * memory what guest.c does, which needs a Linux around it, and prints the same lines; it has
 * no disk. QEMU starts it by -kernel, and its first line comes as soon as its memory
 * is filled, where Linux boots for half a minute on an emulated machine.
 *
 * Each processor runs with its memory mapped one to one and cached, and takes no
 * interrupt. The memory that is tested follows the program. The command line may have
 * guest.mib=N (memory to use) and guest.rewrite=N (of 64 pages, how many a round rewrites).
 */
#include <stdarg.h>
#include <stdbool.h>

#include "bare.h"
#include "pages.h"

#define PAGE_SIZE	(PAGE_WORDS * sizeof(uint64_t))
#define TICK_MS		100

static size_t mib, nr_pages;
/* 0: the others wait */
static _Atomic unsigned int nr_cpus;

/* The compiler makes calls of these out of loops and assignments. */
void *memset(void *to, int value, size_t length)
{
	for (char *p = to; length--; p++)
		*(volatile char *)p = value;
	return to;
}

void *memcpy(void *to, const void *from, size_t length)
{
	const char *in = from;

	for (char *p = to; length--; p++, in++)
		*(volatile char *)p = *in;
	return to;
}

static char *put_number(char *to, unsigned long number, unsigned int base)
{
	char digits[24], *digit = digits;

	do {
		*digit++ = "0123456789abcdef"[number % base];
		number /= base;
	} while (number);
	while (digit > digits) {
		digit--;
		*to++ = *digit;
	}
	return to;
}

/* Knows only what is said here: %u, %zu and %lu, %#lx. */
static void say(const char *format, ...)
{
	static atomic_flag busy = ATOMIC_FLAG_INIT;
	char line[160], *to = line;
	va_list args;

	va_start(args, format);
	for (; *format; format++) {
		if (*format != '%') {
			/* As a terminal of Linux does it, so that both guests write the same. */
			if (*format == '\n')
				*to++ = '\r';
			*to++ = *format;
			continue;
		}
		if (*++format == 'u') {
			to = put_number(to, va_arg(args, unsigned int), 10);
		} else if (*format == '#') {
			*to++ = '0';
			*to++ = 'x';
			to = put_number(to, va_arg(args, unsigned long), 16);
			format += 2;
		} else {
			to = put_number(to, va_arg(args, unsigned long), 10);
			format++;
		}
	}
	va_end(args);
	while (atomic_flag_test_and_set(&busy))
		cpu_relax();
	port_write(line, to - line);
	atomic_flag_clear(&busy);
}

void cpu_failed(unsigned long kind, unsigned long where, unsigned long address)
{
	say("guest: BUG: exception %#lx at %#lx, address %#lx\n", kind, where, address);
	for (;;)
		cpu_relax();
}

/* The first processor calls it often: nothing interrupts it every 100 ms. */
static void tick_when_due(void)
{
	static uint64_t next;
	uint64_t now = clock_ms();

	if (now < next)
		return;
	next = now + TICK_MS;
	say("guest: tick %lu ms, pages %lu\n", now, pages_done);
}

/* All processors meet here at the end of a round. */
static void meet(unsigned int cpu, bool ticks)
{
	static _Atomic unsigned int arrived, meetings;
	unsigned int meeting = meetings;

	if (++arrived == nr_cpus) {
		arrived = 0;
		meetings++;
		return;
	}
	while (meetings == meeting) {
		if (cpu == 0 && ticks)
			tick_when_due();
		cpu_relax();
	}
}

void cpu_run(unsigned int cpu)
{
	size_t first, end;

	while (!nr_cpus)
		cpu_relax();
	first = nr_pages * cpu / nr_cpus;
	end = nr_pages * (cpu + 1) / nr_cpus;
	for (unsigned int round = 0;; round++) {
		for (size_t page = first; page < end; page++) {
			page_visit(page, round);
			if (cpu == 0 && round)
				tick_when_due();
		}
		meet(cpu, round);
		if (cpu != 0)
			continue;
		if (round == 0)
			say("guest: ready, %zu MiB in %u threads\n", mib, nr_cpus);
		else
			say("guest: round %u, verified %zu MiB, wrong bytes %lu\n",
			    round, mib, wrong_bytes);
	}
}

/* The number that follows the name on the command line */
static unsigned long option(const char *line, const char *name, unsigned long otherwise)
{
	for (; *line; line++) {
		unsigned long number = 0;
		size_t i = 0;

		while (name[i] && line[i] == name[i])
			i++;
		if (name[i])
			continue;
		for (line += i; *line >= '0' && *line <= '9'; line++)
			number = number * 10 + *line - '0';
		return number;
	}
	return otherwise;
}

void guest_run(const char *command_line)
{
	mib = option(command_line, "guest.mib=", 128);
	rewrite = option(command_line, "guest.rewrite=", rewrite);
	nr_pages = mib << 8;
	memory = (uint64_t *)image_end;
	generation = (uint32_t *)(image_end + nr_pages * PAGE_SIZE);
	/* From here on the command line may be overwritten, and RAM need not be zero. */
	memset(generation, 0, nr_pages * sizeof(*generation));
	/* The others read all of the above when they see this number. */
	nr_cpus = cpus_start();
	cpu_run(0);
}
