/* SPDX-License-Identifier: GPL-2.0 */
/*
 * How the guest without an operating system starts on arm64: QEMU begins at the entry point
 * of the ELF file, at EL1 with the MMU off. Nothing is written before the MMU and the caches are
 * on, because the host sees only what is in caches.
 */
#include "bare.h"

/* Of a table entry for 1 GiB: accessed, shared by all processors, a block */
#define BLOCK		0x701
#define NORMAL		(1 << 2)
#define NO_EXECUTE	(3 << 53)

	.section .head, "ax"
	.global start
start:
	mov	x20, #0
	b	enter

	/* cpus_start() has the others begin here, with their number in x0. */
	.global	cpu_enter
cpu_enter:
	mov	x20, x0

enter:
	/* Memory attributes: 0 is a device's, 1 normal memory, write-back */
	mov	x0, #0xff00
	msr	mair_el1, x0
	/* Addresses of 39 bits, walks cached and shared, nothing in the upper half */
	ldr	x0, =(25 | 1 << 8 | 1 << 10 | 3 << 12 | 1 << 23)
	msr	tcr_el1, x0
	adr	x0, table
	msr	ttbr0_el1, x0
	adr	x0, vectors
	msr	vbar_el1, x0
	tlbi	vmalle1
	ic	iallu
	dsb	nsh
	isb
	/* What must be one, MMU, caches */
	ldr	x0, =(0x30d00800 | 1 << 0 | 1 << 2 | 1 << 12)
	msr	sctlr_el1, x0
	isb

	add	x1, x20, #1
	ldr	x0, =stacks
	mov	x2, #STACK_SIZE
	madd	x0, x1, x2, x0
	mov	sp, x0
	cbnz	x20, other

	ldr	x0, =bss_begin
	ldr	x1, =image_end
1:	str	xzr, [x0], #8
	cmp	x0, x1
	b.lo	1b
	bl	machine_run

other:
	mov	x0, x20
	bl	cpu_run

	/* All exceptions: they are not expected, so nothing is kept. */
	.balign	2048
vectors:
	.rept	16
	mrs	x0, esr_el1
	mrs	x1, elr_el1
	mrs	x2, far_el1
	b	cpu_failed
	.balign	128
	.endr

	/* 1 GiB of devices, 3 GiB of RAM */
	.section .rodata
	.balign	4096
table:
	.quad	NO_EXECUTE | BLOCK
	.quad	0x40000000 | BLOCK | NORMAL
	.quad	0x80000000 | BLOCK | NORMAL
	.quad	0xc0000000 | BLOCK | NORMAL
	.fill	508, 8, 0

	.bss
	.balign	16
stacks:	.skip	MAX_CPUS * STACK_SIZE

	.section .note.GNU-stack, "", %progbits
