// SPDX-License-Identifier: GPL-2.0
/*
 * What can be seen from outside: the code of the tracepoints, the threads that have
 * waited longest, and /sys/kernel/debug/postcopy/regions.
 *
 * A region keeps a short list of threads, each with its longest single wait. A wait
 * that is no longer than the shortest in a full list costs one comparison. The list
 * is there for the guest's vCPUs, and a thread is in it once, so a few entries do.
 */
#include <linux/debugfs.h>
#include <linux/module.h>
#include <linux/pid.h>
#include <linux/seq_file.h>

#include "postcopy.h"

#define CREATE_TRACE_POINTS
#include "trace.h"

static struct dentry *debugfs_dir;

/**
 * postcopy_waiters_note() - note how long the current thread has waited
 * @region: the region that it waited for
 * @ns: how long
 */
void postcopy_waiters_note(struct postcopy_region *region, u64 ns)
{
	struct pid *pid = task_pid(current), *dropped = NULL;
	struct postcopy_waiter *waiter, *least;
	unsigned int i;

	/* It only ever rises, so an old value costs a look at the list and no more. */
	if (ns <= READ_ONCE(region->waiters.least_ns))
		return;
	spin_lock(&region->waiters.lock);
	least = &region->waiters.list[0];
	for (i = 0; i < POSTCOPY_WAITERS; i++) {
		waiter = &region->waiters.list[i];
		if (waiter->pid == pid) {
			least = waiter;
			break;
		}
		if (waiter->ns < least->ns)
			least = waiter;
	}
	if (ns > least->ns) {
		least->ns = ns;
		if (least->pid != pid) {
			dropped = least->pid;
			least->pid = get_pid(pid);
		}
		ns = least->ns;
		for (i = 0; i < POSTCOPY_WAITERS; i++)
			ns = min(ns, region->waiters.list[i].ns);
		WRITE_ONCE(region->waiters.least_ns, ns);
	}
	spin_unlock(&region->waiters.lock);
	put_pid(dropped);
}

/**
 * postcopy_waiters_describe() - list the threads that have waited longest
 * @region: the region
 * @out: POSTCOPY_WAITERS entries, the longest wait first; unused ones are zero
 *
 * Thread ids are those of the caller's pid namespace, 0 for threads without one there.
 */
void postcopy_waiters_describe(struct postcopy_region *region,
			       struct postcopy_waiter_info *out)
{
	struct postcopy_waiter_info info;
	unsigned int i, j;

	memset(out, 0, POSTCOPY_WAITERS * sizeof(*out));
	spin_lock(&region->waiters.lock);
	for (i = 0; i < POSTCOPY_WAITERS; i++) {
		info = (struct postcopy_waiter_info) {
			.wait_ns = region->waiters.list[i].ns,
			.tid = pid_vnr(region->waiters.list[i].pid),
		};
		for (j = i; j > 0 && out[j - 1].wait_ns < info.wait_ns; j--)
			out[j] = out[j - 1];
		out[j] = info;
	}
	spin_unlock(&region->waiters.lock);
}

/**
 * postcopy_waiters_free() - drop the references on the threads
 * @region: being freed
 */
void postcopy_waiters_free(struct postcopy_region *region)
{
	unsigned int i;

	for (i = 0; i < POSTCOPY_WAITERS; i++)
		put_pid(region->waiters.list[i].pid);
}

static const char * const state_names[] = {
	[POSTCOPY_REGION_UNATTACHED] = "unattached",
	[POSTCOPY_REGION_ATTACHED] = "attached",
	[POSTCOPY_REGION_DETACHED] = "detached",
	[POSTCOPY_REGION_CONVERTED] = "converted",
	[POSTCOPY_REGION_DEAD] = "dead",
};

static void region_show(struct seq_file *seq, struct postcopy_region *region)
{
	struct postcopy_region_info info = { };
	unsigned int i;

	postcopy_region_describe(region, &info);
	seq_printf(seq, "region %llu: %s %s, pid %u (%.*s), helper %u, offset 0x%llx, length 0x%llx\n",
		   region->id, postcopy_region_is_shared(region) ? "shared" : "private",
		   state_names[info.out_state], info.out_pid,
		   (int)sizeof(info.out_comm), info.out_comm, info.out_helper_pid,
		   info.out_offset, info.out_length);
	seq_printf(seq, "  pages: %llu, present %llu, poisoned %llu; filled %llu, zeroed %llu, discarded %llu\n",
		   info.out_nr_pages, info.out_nr_present, info.out_nr_poisoned,
		   info.out_total_filled, info.out_total_zeroed,
		   info.out_total_discarded);
	seq_printf(seq, "  requests: %llu, of these unread %llu; in all %llu for %llu faults\n",
		   info.out_nr_requests, info.out_nr_queued,
		   info.out_total_requests, info.out_total_faults);
	seq_printf(seq, "  waits: %llu us in all, longest %llu us\n",
		   info.out_wait_ns / NSEC_PER_USEC,
		   info.out_wait_max_ns / NSEC_PER_USEC);
	for (i = 0; i < POSTCOPY_WAITERS && info.out_waiters[i].wait_ns; i++)
		seq_printf(seq, "  thread %u: longest %llu us\n",
			   info.out_waiters[i].tid,
			   info.out_waiters[i].wait_ns / NSEC_PER_USEC);
}

static void *regions_start(struct seq_file *seq, loff_t *pos)
{
	unsigned long id = *pos;
	struct postcopy_region *region = postcopy_region_find_from(&id);

	*pos = id;
	return region;
}

static void *regions_next(struct seq_file *seq, void *v, loff_t *pos)
{
	postcopy_region_put(v);
	++*pos;
	return regions_start(seq, pos);
}

static void regions_stop(struct seq_file *seq, void *v)
{
	if (v)
		postcopy_region_put(v);
}

static int regions_show(struct seq_file *seq, void *v)
{
	region_show(seq, v);
	return 0;
}

static const struct seq_operations regions_sops = {
	.start = regions_start,
	.next = regions_next,
	.stop = regions_stop,
	.show = regions_show,
};

DEFINE_SEQ_ATTRIBUTE(regions);

void __init postcopy_observe_init(void)
{
	debugfs_dir = debugfs_create_dir("postcopy", NULL);
	debugfs_create_file("regions", 0400, debugfs_dir, NULL, &regions_fops);
}

/* Waits for readers of the file. */
void postcopy_observe_exit(void)
{
	debugfs_remove(debugfs_dir);
}
