/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The sources are written for the newest kernel. This file supplies what older
 * kernels lack, and no other file does.
 */
#ifndef _POSTCOPY_COMPAT_H
#define _POSTCOPY_COMPAT_H

#include <linux/compiler.h>
#include <linux/fs.h>
#include <linux/version.h>
#include <linux/mm.h>

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 1, 0)
#error postcopy needs Linux 6.1 or later
#endif

/* Since 6.7 ->get_policy has a third argument: where to put the interleave index. */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 7, 0)
#define POSTCOPY_GET_POLICY(name)						\
	struct mempolicy *name(struct vm_area_struct *vma, unsigned long address)
#define postcopy_call_get_policy(ops)	((ops)->get_policy(vma, address))
#else
#define POSTCOPY_GET_POLICY(name)						\
	struct mempolicy *name(struct vm_area_struct *vma, unsigned long address, \
			       pgoff_t *ilx)
#define postcopy_call_get_policy(ops)	((ops)->get_policy(vma, address, ilx))
#endif

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 3, 0)
static inline void vm_flags_set(struct vm_area_struct *vma, vm_flags_t flags)
{
	mmap_assert_write_locked(vma->vm_mm);
	vma->vm_flags |= flags;
}

static inline void vm_flags_clear(struct vm_area_struct *vma, vm_flags_t flags)
{
	mmap_assert_write_locked(vma->vm_mm);
	vma->vm_flags &= ~flags;
}
#endif

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 4, 0)
/* Before 6.4 there is no per-VMA lock: mmap_lock does for it. */
static inline void vma_start_write(struct vm_area_struct *vma)
{
	mmap_assert_write_locked(vma->vm_mm);
}

static inline void release_fault_lock(struct vm_fault *vmf)
{
	mmap_read_unlock(vmf->vma->vm_mm);
}
#endif

/*
 * Get a number that changes whenever mmap_lock has been held for writing. The caller holds
 * the lock for reading. Returns false if the kernel has no such number (before 6.4).
 * mm_lock_seq is an int or, since 6.13 and in later versions of 6.12, a seqcount_t, whose
 * first member is one.
 */
static inline bool postcopy_mmap_generation(struct mm_struct *mm, unsigned int *generation)
{
#ifdef CONFIG_PER_VMA_LOCK
	*generation = *(unsigned int *)&mm->mm_lock_seq;
	return true;
#else
	return false;
#endif
}

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 7, 0)
/* The caller knows that the file exists. */
static inline struct file *get_file_active(struct file **file)
{
	return get_file_rcu(*file) ? *file : NULL;
}
#endif

/*
 * Kernels may be configured to clear variables on the stack. This exempts large ones
 * that are written before they are read.
 */
#ifndef __uninitialized
#define __uninitialized	__attribute__((uninitialized))
#endif

#endif /* _POSTCOPY_COMPAT_H */
