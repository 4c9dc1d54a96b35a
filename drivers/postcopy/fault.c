// SPDX-License-Identifier: GPL-2.0
/*
 * A fault on a missing page, in a private or a shared region: make a request, drop
 * the fault lock, wait, and have the access tried again.
 *
 * It fails closed: an access that can neither wait nor be answered gets SIGBUS.
 */
#include <linux/mm.h>
#include <linux/sched.h>
#include <linux/timekeeping.h>

#include "fault.h"
#include "postcopy.h"
#include "request.h"
#include "trace.h"

static int marker_clear(pte_t *pte, unsigned long address, void *data)
{
	struct vm_fault *vmf = data;

	if (pte_same(ptep_get(pte), vmf->orig_pte))
		pte_clear(vmf->vma->vm_mm, address, pte);
	return 0;
}

/**
 * postcopy_fault_clear_marker() - the rare part of postcopy_fault_drop_marker()
 * @vmf: the fault
 *
 * Context: as postcopy_private_fault().
 */
void postcopy_fault_clear_marker(struct vm_fault *vmf)
{
	apply_to_page_range(vmf->vma->vm_mm, vmf->address & PAGE_MASK, PAGE_SIZE, marker_clear,
			    vmf);
}

static void fault_account_wait(struct postcopy_region *region, u64 ns)
{
	unsigned int bucket = min(fls64(ns >> 10), POSTCOPY_WAIT_BUCKETS - 1);
	s64 max = atomic64_read(&region->counters.wait_max_ns);

	atomic64_inc(&region->counters.wait_histogram[bucket]);
	atomic64_add(ns, &region->counters.wait_ns);
	while (ns > max && !atomic64_try_cmpxchg(&region->counters.wait_max_ns, &max, ns))
		;
	postcopy_waiters_note(region, ns);
}

static unsigned int fault_wait_state(unsigned int flags)
{
	unsigned int state = TASK_KILLABLE;

	/*
	 * x86 sets the flag for kernel-mode faults too, but looks at fatal signals
	 * only and tries again at once. So a signal ends only the first wait of a
	 * kernel-mode fault. That is for KVM, which looks at all signals before it
	 * tries again.
	 */
	if (flags & FAULT_FLAG_INTERRUPTIBLE &&
	    (flags & FAULT_FLAG_USER || !(flags & FAULT_FLAG_TRIED)))
		state = TASK_INTERRUPTIBLE;
	/* An access from user mode holds no lock, so the task may be frozen. */
	if (flags & FAULT_FLAG_USER)
		state |= TASK_FREEZABLE;
	return state;
}

/*
 * The access must not wait. User mode gets SIGBUS. Anything else may be KVM, which looks
 * up a page for its guest: on x86 it first asks without waiting, and tries again for ever
 * after any error but the one for a page lost to a memory error; on arm64 it turns any
 * other error into EFAULT of KVM_RUN. After that one it raises BUS_MCEERR_AR in the VMM,
 * on both. Other accesses of the kernel fail with EFAULT in either case.
 */
static vm_fault_t fault_refused(unsigned int flags)
{
	return flags & FAULT_FLAG_USER ? VM_FAULT_SIGBUS : VM_FAULT_HWPOISON;
}

/**
 * postcopy_fault_missing() - an access to a missing page
 * @region: the region
 * @index: the page
 * @vmf: the fault
 *
 * Context: as postcopy_private_fault().
 * Return: what ->fault returns.
 */
vm_fault_t postcopy_fault_missing(struct postcopy_region *region,
				  unsigned long index, struct vm_fault *vmf)
{
	/* No signal ends the wait of a kernel thread (KVM's worker, vhost's). */
	struct mm_struct *borrowed = current->flags & PF_KTHREAD ? vmf->vma->vm_mm : NULL;
	unsigned int flags = vmf->flags;
	struct postcopy_req *req;
	bool is_new = false;
	u64 start, waited;

	if (postcopy_poisoned(region, index))
		return VM_FAULT_HWPOISON;
	/* The caller cannot drop its lock, or must not wait. */
	if (!(flags & FAULT_FLAG_ALLOW_RETRY) ||
	    !(flags & FAULT_FLAG_USER || region->limits.kernel_faults) ||
	    (current->flags & (PF_EXITING | PF_DUMPCORE)))
		return fault_refused(flags);

	atomic64_inc(&region->counters.faults);
	trace_postcopy_fault(region, index, flags);
	start = ktime_get_ns();
	req = postcopy_req_find(region, index, flags & FAULT_FLAG_WRITE, start,
				&is_new);
	if (IS_ERR(req))
		return VM_FAULT_OOM;
	if (!req)	/* present, poisoned or ended just now: have it tried again */
		return VM_FAULT_NOPAGE;
	if (is_new)
		postcopy_req_announce(region, !(flags & FAULT_FLAG_RETRY_NOWAIT));
	if (postcopy_wait_expired(region, req, borrowed)) {
		postcopy_req_put(region, req);
		return fault_refused(flags);
	}

	if (flags & FAULT_FLAG_RETRY_NOWAIT) {
		/* KVM's asynchronous page fault: the lock stays held. */
		postcopy_req_put(region, req);
		return VM_FAULT_RETRY;
	}

	/* Without the lock the VMA may go, and its reference on the region with it. */
	postcopy_region_get(region);
	release_fault_lock(vmf);
	postcopy_wait(region, req, is_new, fault_wait_state(flags), borrowed);
	waited = ktime_get_ns() - start;
	trace_postcopy_wake(region, index, waited);
	fault_account_wait(region, waited);
	postcopy_req_put(region, req);
	postcopy_region_put(region);
	/*
	 * Whether the page is present, a signal came or a limit was reached: the
	 * access is made again if it is still wanted. User mode does that by itself,
	 * so tell the core that the fault is complete and the lock dropped, which
	 * saves it a second look. NOPAGE: there is no page for the core to map.
	 */
	if (flags & FAULT_FLAG_USER)
		return VM_FAULT_COMPLETED | VM_FAULT_NOPAGE;
	return VM_FAULT_RETRY;
}
