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
/* Of the series between, and of newer ones, nobody has run the tests. */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(7, 4, 0) || \
	(LINUX_VERSION_CODE >= KERNEL_VERSION(6, 13, 0) && \
	 LINUX_VERSION_CODE < KERNEL_VERSION(7, 2, 0))
#pragma message "postcopy is tested on Linux 6.1, 6.12, 7.2 and 7.3, not on this one: test it first"
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

/* Since 6.13 nobody says whether the folio is part of a huge page. */
static inline struct folio *postcopy_alloc_folio(gfp_t gfp, struct vm_area_struct *vma,
						 unsigned long address)
{
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 13, 0)
	return vma_alloc_folio(gfp, 0, vma, address, false);
#else
	return vma_alloc_folio(gfp, 0, vma, address);
#endif
}

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 14, 0)
#define alloc_pages_bulk_node(gfp, node, nr, pages) \
	alloc_pages_bulk_array_node(gfp, node, nr, pages)
#endif

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 18, 0)
#include <linux/pfn_t.h>
/* Its frame number was a type of its own. */
#define vmf_insert_mixed(vma, address, pfn) \
	vmf_insert_mixed(vma, address, pfn_to_pfn_t(pfn))

/* No file has ->mmap_prepare instead of ->mmap, or it has both. */
#define vfs_mmap(file, vma)	((file)->f_op->mmap(file, vma))
#endif

/* VM_NORESERVE for shmem_file_setup(), which takes a type of its own where there is one. */
#ifdef mk_vma_flags
#define POSTCOPY_NORESERVE	mk_vma_flags(VMA_NORESERVE_BIT)
#else
#define POSTCOPY_NORESERVE	VM_NORESERVE
#endif

#if LINUX_VERSION_CODE < KERNEL_VERSION(7, 2, 0)
/*
 * Drop the pages of a part of a VMA. The only such function exported to modules insists on
 * VM_PFNMAP, which does not change how it zaps normal pages.
 */
static inline void zap_vma_range(struct vm_area_struct *vma, unsigned long address,
				 unsigned long size)
{
	vm_flags_set(vma, VM_PFNMAP);
	zap_vma_ptes(vma, address, size);
	vm_flags_clear(vma, VM_PFNMAP);
}
#endif

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
