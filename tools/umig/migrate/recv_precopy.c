// SPDX-License-Identifier: GPL-2.0
/*
 * umig recv: pages that come while the source still runs.
 *
 * Whatever the source writes to after that comes as DIRTY and is dropped again here. Between a read
 * of the source and the fill of what was read there is a time in which the page may be written to
 * and dropped, and the old content would come last: so background is stopped, and what it had in
 * flight is thrown away, before anything is dropped.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "lib/umig.h"
#include "migrate/recv.h"

#define PROGRESS_MS	500

/* Return: 0 or -errno, both sides having been told. */
int recv_precopy_start(struct recv *r)
{
	int ret = 0;

	if (!r->transfer.regions[0].sum)
		ret = transfer_keep_sums(&r->transfer);
	if (!ret)
		ret = transfer_start_background(&r->transfer);
	if (ret) {
		recv_refuse(r, "the receiver cannot begin to fill: %s", strerror(-ret));
		return ret;
	}
	monitor_phase(&r->monitor, "precopy");
	r->precopy_runs = true;
	r->told_ns = 0;
	return link_send_type(r->link, CONTROL_READY);
}

/* Twice a second; shows it here, too. */
int recv_precopy_tell(struct recv *r)
{
	struct transfer *t = &r->transfer;
	struct control_message msg = {
		.type = CONTROL_PROGRESS,
		.present = transfer_present_pages(t),
		.total = transfer_total_pages(t),
	};
	uint64_t now = now_ns();

	progress_show(&r->progress, t);
	if (now - r->told_ns < PROGRESS_MS * 1000000ULL && msg.present != msg.total)
		return 0;
	/* That it is whole is said once. */
	if (r->told_ns == UINT64_MAX)
		return 0;
	r->told_ns = msg.present == msg.total ? UINT64_MAX : now;
	return link_send(r->link, &msg);
}

/* No page that was read before now is filled after this. */
void recv_precopy_stop(struct recv *r)
{
	if (!r->precopy_runs)
		return;
	transfer_stop_background(&r->transfer);
	r->precopy_runs = false;
}

/* What is zero now: data that is there is dropped, then all of it is zero. */
static int recv_precopy_holes(struct recv *r, struct postcopy_range *ranges, size_t nr)
{
	struct region *region = &r->transfer.regions[0];
	size_t i;

	for (i = 0; i < nr; i++) {
		uint64_t page = (ranges[i].offset - region->offset) / UMIG_PAGE_SIZE;
		uint64_t end = page + ranges[i].length / UMIG_PAGE_SIZE;

		for (; page < end; page++) {
			struct postcopy_range one = {
				region->offset + page * UMIG_PAGE_SIZE, UMIG_PAGE_SIZE
			};
			int ret;

			if (!(atomic_load(&region->data[page / 64]) & 1ULL << (page % 64)))
				continue;
			ret = transfer_forget(&r->transfer, region, &one, 1);
			if (ret)
				return ret;
		}
	}
	return fill_zero(&r->transfer, region, ranges, nr);
}

/* A DIRTY or HOLES frame. Return: 0 or -errno, both sides having been told. */
int recv_precopy_ranges(struct recv *r, const struct control_frame *frame)
{
	struct region *region = &r->transfer.regions[0];
	uint32_t nr = frame->length / CONTROL_RANGE_SIZE, i;
	struct postcopy_range *ranges = calloc(nr, sizeof(*ranges));
	int ret = ranges ? 0 : -ENOMEM;

	if (!ret && !r->hello.precopy)
		ret = -EPROTO;
	for (i = 0; i < nr && !ret; i++) {
		uint64_t first, count;

		ret = control_get_range(frame, i, region->set.nr_pages, &first, &count);
		ranges[i] = (struct postcopy_range){
			region->offset + first * UMIG_PAGE_SIZE, count * UMIG_PAGE_SIZE
		};
	}
	if (!ret) {
		recv_precopy_stop(r);
		if (frame->kind == CONTROL_DIRTY)
			ret = transfer_forget(&r->transfer, region, ranges, nr);
		else
			ret = recv_precopy_holes(r, ranges, nr);
	}
	free(ranges);
	if (ret)
		recv_refuse(r, "the receiver cannot drop what the source has written to: %s",
			    strerror(-ret));
	return ret;
}

/* All of a round has been dropped: on with it. */
int recv_precopy_round(struct recv *r)
{
	if (!r->hello.precopy)
		return -EPROTO;
	recv_precopy_stop(r);
	return recv_precopy_start(r);
}
