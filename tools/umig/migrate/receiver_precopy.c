// SPDX-License-Identifier: GPL-2.0
/*
 * umig recv: pages come while the source still runs.
 *
 * The source sends the numbers of pages that it has written to since as DIRTY, and they are dropped
 * here. A page may be written to and dropped between the moment it is read from the source and the
 * moment it is filled, and then the old content would come last. So background is stopped, and what
 * it had in flight is thrown away, before any page is dropped.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "lib/lib.h"
#include "lib/log.h"
#include "migrate/receiver.h"
#include "transfer/fill.h"
#include "transfer/forget.h"

/* Return: 0 or -errno, both sides having been told. */
int receiver_precopy_start(struct receiver *r)
{
	int ret = forget_prepare(&r->in.transfer);

	if (!ret)
		ret = transfer_start_background(&r->in.transfer);
	if (ret) {
		receiver_refuse(r, "the receiver cannot begin to fill: %s", strerror(-ret));
		return ret;
	}
	watch_phase(&r->watch, "precopy");
	r->precopy_runs = true;
	r->told_ns = 0;
	return link_send_type(r->link, CONTROL_READY);
}

/* Shows progress here, and tells it to the sender twice a second. Return: 0 or -errno. */
int receiver_precopy_tell(struct receiver *r)
{
	struct transfer *t = &r->in.transfer;
	struct control_message msg = {
		.type = CONTROL_PROGRESS,
		.present = transfer_present_pages(t),
		.total = transfer_total_pages(t),
	};
	uint64_t now = now_ns();

	progress_show(&r->progress, t);
	if (now - r->told_ns < PROGRESS_MS * NS_PER_MS && msg.present != msg.total)
		return 0;
	/* That nothing is missing is said once. */
	if (r->told_ns == UINT64_MAX)
		return 0;
	r->told_ns = msg.present == msg.total ? UINT64_MAX : now;
	return link_send(r->link, &msg);
}

/* No page that was read before this call is filled after it. */
void receiver_precopy_stop(struct receiver *r)
{
	if (!r->precopy_runs)
		return;
	transfer_stop_background(&r->in.transfer);
	r->precopy_runs = false;
}

/* These ranges are zero now: drops pages that came as data, then fills all of it with zeros. */
static int receiver_precopy_holes(struct receiver *r, struct postcopy_range *ranges, size_t nr)
{
	struct region *region = &r->in.transfer.regions[0];
	size_t i;

	for (i = 0; i < nr; i++) {
		uint64_t page = (ranges[i].offset - region->offset) / UMIG_PAGE_SIZE;
		uint64_t end = page + ranges[i].length / UMIG_PAGE_SIZE;

		for (; page < end; page++) {
			struct postcopy_range one = {
				region_page_offset(region, page), UMIG_PAGE_SIZE
			};
			int ret;

			if (!forget_is_data(region, page))
				continue;
			ret = forget_pages(&r->in.transfer, region, &one, 1);
			if (ret)
				return ret;
		}
	}
	return fill_zero(&r->in.transfer, region, ranges, nr);
}

/* A DIRTY or HOLES frame. Return: 0 or -errno, both sides having been told. */
int receiver_precopy_ranges(struct receiver *r, const struct control_frame *frame)
{
	struct region *region = &r->in.transfer.regions[0];
	uint32_t nr = frame->length / CONTROL_RANGE_SIZE, i;
	struct postcopy_range *ranges = calloc(nr, sizeof(*ranges));
	int ret = ranges ? 0 : -ENOMEM;

	if (!ret && !r->hello.precopy)
		ret = -EPROTO;
	for (i = 0; i < nr && !ret; i++) {
		uint64_t first, count;

		ret = control_get_range(frame, i, region->set.nr_pages, &first, &count);
		ranges[i] = (struct postcopy_range){
			region_page_offset(region, first), count * UMIG_PAGE_SIZE
		};
	}
	if (!ret) {
		receiver_precopy_stop(r);
		if (frame->kind == CONTROL_DIRTY)
			ret = forget_pages(&r->in.transfer, region, ranges, nr);
		else
			ret = receiver_precopy_holes(r, ranges, nr);
	}
	free(ranges);
	if (ret)
		receiver_refuse(r, "the receiver cannot drop what the source has written to: %s",
				strerror(-ret));
	return ret;
}

/* The last DIRTY of a round has come: the next round begins. */
int receiver_precopy_round(struct receiver *r)
{
	if (!r->hello.precopy)
		return -EPROTO;
	receiver_precopy_stop(r);
	return receiver_precopy_start(r);
}
