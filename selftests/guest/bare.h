/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The guest without an operating system: what bare.c and the files of an architecture,
 * bare_ARCH.S and bare_ARCH.c, have of each other. The assembler reads it, too.
 */
#ifndef BARE_H
#define BARE_H

#define MAX_CPUS	8
#define STACK_SIZE	8192

#ifndef __ASSEMBLER__
#include <stddef.h>
#include <stdint.h>

/* bare.c */

/* The first processor comes here. */
__attribute__((noreturn)) void guest_run(const char *command_line);
/* The others come here, numbered from 1. */
__attribute__((noreturn)) void cpu_run(unsigned int cpu);
/* A processor comes here after an exception, none of which is expected. */
__attribute__((noreturn)) void cpu_failed(unsigned long kind, unsigned long where,
					  unsigned long address);
/* The end of the program, on a page boundary */
extern char image_end[];

/* bare_ARCH.c and bare_ARCH.S */

/* The first processor comes here from the assembler. */
#ifdef __aarch64__
void machine_run(void);
/* Where the others start, with their number */
void cpu_enter(void);
#else
struct start_info;
void machine_run(const struct start_info *info);
void prepare_exceptions(void);
/* What lidt takes */
extern struct exceptions {
	uint16_t limit;
	uint64_t base;
} __attribute__((packed)) exceptions;
extern uint64_t segments[];
/* 32 of 16 bytes */
extern const char exception_entries[];
/* Where the others start */
extern const char trampoline[];
extern const uint32_t trampoline_length;
/* How many others have come */
extern volatile uint32_t cpus_joined;
#endif

/* Starts the other processors; returns how many there are with this one. */
unsigned int cpus_start(void);
/* Milliseconds, only for the first processor */
uint64_t clock_ms(void);
void port_write(const char *text, size_t length);
/* In a loop that waits for another processor */
void cpu_relax(void);
#endif

#endif /* BARE_H */
