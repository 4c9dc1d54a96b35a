/* SPDX-License-Identifier: GPL-2.0 */
/*
 * How the guest without an operating system starts on x86-64. QEMU finds the note (PVH) and
 * begins in 32-bit mode, without paging, with the address of a struct hvm_start_info
 * in %ebx.
 */
#include "bare.h"

#define CODE32		0x08
#define CODE64		0x10
#define DATA		0x18
#define TASK		0x20		/* of the first processor; 16 bytes for each */
#define SEGMENTS_SIZE	(TASK + MAX_CPUS * 16)

/* Of a page table entry: present, writable; and a page of 2 MiB */
#define TABLE		0x3
#define PAGE_2M		0x83

	.section .note.Xen, "a", @note
	.balign	4
	.long	4, 4, 18		/* lengths of name and value; the entry point */
	.asciz	"Xen"
	.long	start

	.section .head, "ax"
	.code32
	.global start
start:
	xorl	%edi, %edi
	movl	%ebx, %ebp
	jmp	enter

	/* Another processor: it takes its number. */
join:
	movw	$DATA, %ax
	movw	%ax, %ds
	movl	$1, %edi
	lock xaddl %edi, cpus_joined
	incl	%edi

enter:
	movl	$0x20, %eax		/* CR4.PAE */
	movl	%eax, %cr4
	movl	$top_table, %eax
	movl	%eax, %cr3
	movl	$0xc0000080, %ecx	/* EFER.LME */
	rdmsr
	orl	$0x100, %eax
	wrmsr
	movl	$0x80000011, %eax	/* CR0.PG, ET, PE: caches are on */
	movl	%eax, %cr0
	lgdt	descriptors
	ljmpl	$CODE64, $long_mode

	.code64
long_mode:
	movl	$DATA, %eax
	movl	%eax, %ds
	movl	%eax, %es
	movl	%eax, %ss
	leal	1(%rdi), %eax
	imull	$STACK_SIZE, %eax
	leaq	stacks(%rax), %rsp
	testl	%edi, %edi
	jz	1f
	call	2f
	call	cpu_run
1:	call	prepare_exceptions
	xorl	%edi, %edi
	call	2f
	movl	%ebp, %edi
	call	machine_run
2:	lidt	exceptions
	movl	%edi, %eax
	shll	$4, %eax
	addl	$TASK, %eax
	ltr	%ax
	ret

	/*
	 * Where the other processors begin: in 16-bit mode. cpus_start() copies it to an
	 * address in the first MiB; its segment is there.
	 */
	.global	trampoline
	.code16
trampoline:
	cli
	movw	%cs, %ax
	movw	%ax, %ds
	lgdtl	trampoline_descriptors - trampoline
	movl	$0x11, %eax		/* CR0.ET, PE */
	movl	%eax, %cr0
	ljmpl	$CODE32, $join
trampoline_descriptors:
	.word	SEGMENTS_SIZE - 1
	.long	segments
trampoline_end:

	.code64
	/* All exceptions: the C function gets the number and what lies on the stack. */
	.global	exception_entries
	.balign	16
exception_entries:
	vector = 0
	.rept	32
	movl	$vector, %edi
	jmp	exception_common
	.balign	16
	vector = vector + 1
	.endr
exception_common:
	/* Some have an error code on the stack, the others begin with where it was. */
	movq	(%rsp), %rsi
	cmpl	$8, %edi
	je	1f
	cmpl	$10, %edi
	jb	2f
	cmpl	$14, %edi
	ja	2f
1:	movq	8(%rsp), %rsi
2:	movq	%cr2, %rdx
	andq	$-16, %rsp
	call	cpu_failed

	.section .rodata
	.balign	8
	.global	trampoline_length
trampoline_length:
	.long	trampoline_end - trampoline
descriptors:
	.word	SEGMENTS_SIZE - 1
	.quad	segments

	/* What follows the processor marks when it uses it. */
	.data
	.balign	8
	.global	segments
segments:
	.quad	0
	.quad	0x00cf9b000000ffff	/* CODE32 */
	.quad	0x00af9b000000ffff	/* CODE64 */
	.quad	0x00cf93000000ffff	/* DATA */
	.fill	2 * MAX_CPUS, 8, 0	/* TASK: prepare_exceptions() */

	/* 4 GiB, one to one */
	.balign	4096
top_table:
	.quad	third_table + TABLE
	.fill	511, 8, 0
third_table:
	.quad	second_tables + TABLE
	.quad	second_tables + 4096 + TABLE
	.quad	second_tables + 8192 + TABLE
	.quad	second_tables + 12288 + TABLE
	.fill	508, 8, 0
second_tables:
	page = 0
	.rept	2048
	.quad	page + PAGE_2M
	page = page + 0x200000
	.endr

	.global	cpus_joined
cpus_joined:
	.long	0

	.bss
	.balign	16
stacks:	.skip	MAX_CPUS * STACK_SIZE

	.section .note.GNU-stack, "", @progbits
