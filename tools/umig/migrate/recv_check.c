// SPDX-License-Identifier: GPL-2.0
/* umig recv: can this guest be received here? Nothing is changed before the answer is yes. */
#define _GNU_SOURCE
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "device/dev.h"
#include "device/find.h"
#include "lib/umig.h"
#include "migrate/recv.h"

/* Checks the destination QEMU. Return: 0 or -errno, having said why. */
int recv_check_qemu(struct recv *r)
{
	char state[64];
	int ret;

	if (qemu_run_state(&r->qmp, state, sizeof(state))) {
		log_error("cannot ask the destination QEMU for its state: %s", r->qmp.error);
		return -EIO;
	}
	if (!r->resume && strcmp(state, "inmigrate")) {
		log_error("the destination QEMU is in state '%s', not waiting for a migration; "
			  "start it with -incoming defer%s",
			  state, strcmp(state, "running") && strcmp(state, "paused") ? "" :
			  ", or give --resume if its memory is only partly there");
		return -EOPNOTSUPP;
	}
	if (r->resume && !strcmp(state, "inmigrate")) {
		log_error("the destination QEMU has not been loaded, there is nothing to resume");
		return -EOPNOTSUPP;
	}
	ret = qemu_find_ram(&r->qmp, "destination", &r->ram);
	if (ret)
		return ret;
	if (strcmp(r->ram.path, dev_path())) {
		log_error("the destination's RAM is the file %s; "
			  "start it with -object memory-backend-file,id=%s,size=%" PRIu64
			  ",mem-path=%s,share=off",
			  r->ram.path, r->ram.id, r->ram.size, dev_path());
		return -EOPNOTSUPP;
	}
	if (r->ram.prealloc) {
		log_error("the destination's memory backend waits for every page; "
			  "leave out prealloc=on");
		return -EOPNOTSUPP;
	}
	if (!r->pid)
		r->pid = r->qmp.pid;
	if (qemu_has_locked_memory(r->pid)) {
		log_error("the destination QEMU locks its memory and waits for every page; "
			  "leave out -overcommit mem-lock=on");
		return -EOPNOTSUPP;
	}
	if (!r->resume)
		return qemu_check_caps(&r->qmp, "destination", r->caps);
	qemu_kept_id(&r->qmp, r->id, sizeof(r->id));
	return 0;
}

int recv_find_region(struct recv *r)
{
	struct postcopy_region_info info;
	uint64_t *ids = NULL;
	size_t nr = 0;
	int ret;

	r->context = find_open_context();
	if (r->context < 0)
		return r->context;
	ret = find_regions(r->context, r->pid, &ids, &nr);
	if (!ret && nr == 1)
		r->region = ids[0];
	free(ids);
	if (!ret && nr != 1) {
		log_error("QEMU (process %d) has %zu regions of %s instead of 1%s", (int)r->pid, nr,
			  dev_path(), nr ? "" : "; if this is not QEMU's process id, give --pid");
		return -EOPNOTSUPP;
	}
	if (!ret)
		ret = dev_region_info(r->context, r->region, &info);
	if (ret) {
		log_error("cannot find the region of process %d: %s", (int)r->pid, strerror(-ret));
		return ret;
	}
	if (info.out_offset || info.out_length != r->ram.size) {
		log_error("region %" PRIu64 " has %" PRIu64 " bytes at %" PRIu64
			  ", the machine's RAM has %" PRIu64,
			  r->region, (uint64_t)info.out_length, (uint64_t)info.out_offset,
			  r->ram.size);
		return -EOPNOTSUPP;
	}
	if (!r->resume && info.out_nr_present) {
		log_error("%" PRIu64 " pages of region %" PRIu64
			  " are there already, whose is not known; "
			  "start the destination QEMU anew",
			  (uint64_t)info.out_nr_present, r->region);
		return -EOPNOTSUPP;
	}
	return 0;
}

/* Do the two sides fit? Return: 0 or -EOPNOTSUPP, both having been told. */
int recv_check_hello(struct recv *r)
{
	const struct control_message *h = &r->hello;

	if (h->page_size != UMIG_PAGE_SIZE) {
		recv_refuse(r, "pages of %" PRIu64 " bytes on the source, %llu here", h->page_size,
			    UMIG_PAGE_SIZE);
		return -EOPNOTSUPP;
	}
	if (h->ram_size != r->ram.size) {
		recv_refuse(r, "the source's RAM has %" PRIu64 " bytes, the destination's %" PRIu64
			       "; start both QEMUs with the same -m",
			    h->ram_size, r->ram.size);
		return -EOPNOTSUPP;
	}
	if (strcmp(h->ram_id, r->ram.id)) {
		recv_refuse(r,
			    "the memory backend is called '%s' on the source and '%s' on the destination; QEMU needs the same name on both",
			    h->ram_id, r->ram.id);
		return -EOPNOTSUPP;
	}
	return 0;
}
