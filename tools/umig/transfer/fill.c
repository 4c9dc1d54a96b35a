// SPDX-License-Identifier: GPL-2.0
/*
 * Pages become present: claimed, installed, counted. Pages that background has received into a
 * shared region's memory are claimed already, and are only made present (place.c).
 *
 * Only a complete read of the full length comes here (source.c). A page of zeros is installed as a
 * zero page, however it arrived: then it takes no memory.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "device/device.h"
#include "lib/log.h"
#include "lib/lib.h"
#include "transfer/fill.h"

#define ZERO_BATCH	1024

/*
 * A run of pages that are claimed, not installed yet, and all zero or all data.
 * @placed: the data is in the region's memory already
 * @requests: not NULL: the call that fills also reads queued requests, at most *@nr_requests
 */
struct run {
	uint64_t first;
	uint64_t nr;
	bool zero;
	bool placed;
	struct postcopy_request *requests;
	size_t *nr_requests;
};

/*
 * Decides what to do about an error of a fill. Return: 0 to try again; 1 if the region has ended,
 * so that its pages do not matter any more; -errno if the transfer has failed.
 */
static int fill_failed(struct transfer *t, struct region *r, const char *what, int error)
{
	bool said;

	switch (error) {
	case -ENOMEM:
	case -EAGAIN:
		/* The memory cgroup of the owner may get room again. Giving up would not help. */
		pthread_mutex_lock(&t->lock);
		said = t->no_memory_said;
		t->no_memory_said = true;
		pthread_mutex_unlock(&t->lock);
		if (!said)
			log_error("cannot fill region %" PRIu64 ": no memory for the VMM's page; "
				  "trying again until there is (its memory cgroup may be too small)",
				  r->id);
		usleep(20000);
		/* The pages stay claimed, so this transfer cannot become complete. */
		if (atomic_load(&t->stopping))
			transfer_fail(t, UMIG_INCOMPLETE);
		return atomic_load(&t->exit_code) ? -ENOMEM : 0;
	case -ESRCH:
	case -EALREADY:
		transfer_region_ended(t, r);
		return 1;
	default:
		log_error("cannot %s pages of region %" PRIu64 ": %s; "
			  "the pages stay missing, run the same command again",
			  what, r->id, strerror(-error));
		transfer_fail(t, UMIG_FAILED);
		return error;
	}
}

/* Wakes the caller of the transfer if nothing is missing any more. */
static void fill_wake(struct transfer *t, struct region *r)
{
	if (pageset_is_complete(&r->set))
		eventfd_write(t->done_fd, 1);
}

/* Takes a page into the digest. */
static void fill_add(struct region *r, uint64_t page, const uint8_t *data, struct digest *d)
{
	struct digest one = { 0 };

	digest_add(&one, data, UMIG_PAGE_SIZE, region_page_offset(r, page));
	if (r->sum) {
		r->sum[page] = one.sum;
		r->nr_data[page] = (uint8_t)one.nr_data;
	}
	d->sum += one.sum;
	d->nr_data += one.nr_data;
	d->nr_zero += one.nr_zero;
}

static void fill_digest(struct transfer *t, struct region *r, const struct run *run,
			const uint8_t *data)
{
	struct digest d = { 0 };
	uint64_t i;

	if (t->no_digest)
		return;
	for (i = 0; i < run->nr; i++)
		fill_add(r, run->first + i, data + i * UMIG_PAGE_SIZE, &d);
	atomic_fetch_add(&t->digest_sum, d.sum);
	atomic_fetch_add(&t->digest_data, d.nr_data);
	atomic_fetch_add(&t->digest_zero, d.nr_zero);
}

/* The same for pages of zeros */
static void fill_digest_zeros(struct transfer *t, uint64_t nr)
{
	atomic_fetch_add(&t->digest_zero, nr * (UMIG_PAGE_SIZE / DIGEST_UNIT));
}

static int fill_run(struct transfer *t, struct region *r, const struct run *run,
		    const uint8_t *data, enum fill_kind kind)
{
	struct postcopy_range range = {
		.offset = region_page_offset(r, run->first),
		.length = run->nr * UMIG_PAGE_SIZE,
	};
	int ret;

	if (!run->nr)
		return 0;
	/* Before the fill: once a page is present the guest may write to it. */
	if (run->placed && !run->zero)
		fill_digest(t, r, run, data);
	do {
		if (run->zero)
			ret = dev_zero(r->helper, &range, 1);
		else if (run->placed)
			ret = dev_present(r->helper, &range, 1);
		else if (run->requests)
			ret = dev_exchange(r->helper, range.offset, data, run->requests,
					   run->nr_requests);
		else
			ret = dev_fill(r->helper, range.offset, range.length, data);
		if (!ret)
			break;
		ret = fill_failed(t, r, run->zero ? "zero" : "fill", ret);
		if (ret)
			return ret;
	} while (1);

	/* After the fill: a waiting guest goes first. */
	if (run->zero)
		fill_digest_zeros(t, run->nr);
	else if (!run->placed)
		fill_digest(t, r, run, data);
	atomic_fetch_add(&t->pages[run->zero && kind != FILL_DEMAND ? FILL_ZERO : kind], run->nr);
	pageset_set_present(&r->set, run->first, run->nr);
	fill_wake(t, r);
	return 0;
}

/* Fills the pages of bit mask @mine, run by run. Return: as fill_data(). */
static int fill_runs(struct transfer *t, struct region *r, uint64_t page, uint64_t nr,
		     const uint8_t *data, uint64_t mine, bool placed)
{
	struct run run = { .first = page };
	uint64_t i;
	int ret;

	for (i = 0; i < nr; i++) {
		bool claimed = mine & (1ULL << i);
		bool zero = claimed && digest_page_is_zero(data + i * UMIG_PAGE_SIZE);

		if (claimed && run.nr && zero == run.zero && run.first + run.nr == page + i) {
			run.nr++;
			continue;
		}
		ret = fill_run(t, r, &run, data + (run.first - page) * UMIG_PAGE_SIZE,
			       FILL_BACKGROUND);
		if (ret)
			return ret < 0 ? ret : 0;
		run = (struct run){
			.first = page + i, .nr = claimed ? 1 : 0, .zero = zero, .placed = placed
		};
	}
	ret = fill_run(t, r, &run, data + (run.first - page) * UMIG_PAGE_SIZE, FILL_BACKGROUND);
	return ret < 0 ? ret : 0;
}

/*
 * Counts the pages of a read that are not in bit mask @mine: another thread has brought them too.
 */
static void fill_count_repeated(struct transfer *t, uint64_t nr, uint64_t mine)
{
	atomic_fetch_add(&t->nr_repeated, nr - (uint64_t)__builtin_popcountll(mine));
}

/**
 * fill_data - install those of the pages that no thread has claimed yet
 * @page: index of the first in @r
 * @nr: at most 64
 * @data: @nr pages, page-aligned
 *
 * Return: 0, also if other threads had claimed them; -errno if the transfer has failed.
 */
int fill_data(struct transfer *t, struct region *r, uint64_t page, uint64_t nr,
	      const uint8_t *data)
{
	uint64_t mine = 0, i;

	for (i = 0; i < nr; i++)
		mine |= (uint64_t)pageset_claim(&r->set, page + i) << i;
	fill_count_repeated(t, nr, mine);
	return fill_runs(t, r, page, nr, data, mine, false);
}

/**
 * fill_placed - make pages present that are in a shared region's memory already
 * @mine: bit i: page @page + i is claimed by the caller
 *
 * Return: as fill_data().
 */
int fill_placed(struct transfer *t, struct region *r, uint64_t page, uint64_t nr, uint64_t mine)
{
	fill_count_repeated(t, nr, mine);
	return fill_runs(t, r, page, nr, r->memory + page * UMIG_PAGE_SIZE, mine, true);
}

/**
 * fill_demand - install a page for which somebody waits, and read queued requests along with it
 * @claimed: the caller has claimed the page; otherwise it is only counted
 * @data: one page, page-aligned
 * @requests: where queued requests go
 * @nr_requests: for how many there is room; afterwards how many were read
 *
 * Return: as fill_data().
 */
int fill_demand(struct transfer *t, struct region *r, uint64_t page, bool claimed,
		const uint8_t *data, struct postcopy_request *requests, size_t *nr_requests)
{
	struct run run = {
		.first = page,
		.nr = claimed ? 1 : 0,
		.zero = digest_page_is_zero(data),
		.requests = *nr_requests ? requests : NULL,
		.nr_requests = nr_requests,
	};
	int ret;

	if (!run.nr || run.zero)
		*nr_requests = 0;
	fill_count_repeated(t, 1, run.nr);
	ret = fill_run(t, r, &run, data, FILL_DEMAND);
	if (ret)
		*nr_requests = 0;
	return ret < 0 ? ret : 0;
}

static int zero_flush(struct transfer *t, struct region *r, struct postcopy_range *batch,
		      size_t nr)
{
	uint64_t pages = 0;
	size_t i;
	int ret;

	if (!nr)
		return 0;
	for (;;) {
		ret = dev_zero(r->helper, batch, nr);
		if (!ret)
			break;
		ret = fill_failed(t, r, "zero", ret);
		if (ret)
			return ret;
	}
	for (i = 0; i < nr; i++) {
		uint64_t length = batch[i].length / UMIG_PAGE_SIZE;

		pageset_set_present(&r->set, (batch[i].offset - r->offset) / UMIG_PAGE_SIZE,
				    length);
		pages += length;
	}
	fill_digest_zeros(t, pages);
	atomic_fetch_add(&t->pages[FILL_ZERO], pages);
	fill_wake(t, r);
	return 0;
}

/**
 * fill_zero - make the whole pages in @ranges (image offsets, inside @r) present as zeros
 *
 * Return: 0, or -errno if the transfer has failed.
 */
int fill_zero(struct transfer *t, struct region *r, const struct postcopy_range *ranges,
	      size_t nr)
{
	struct postcopy_range batch[ZERO_BATCH];
	size_t used = 0, i;
	int ret;

	for (i = 0; i < nr; i++) {
		/* Rounded inwards: half a page of zeros does not make the page zero. */
		uint64_t page = (ranges[i].offset - r->offset + UMIG_PAGE_SIZE - 1) /
			UMIG_PAGE_SIZE;
		uint64_t end = (ranges[i].offset + ranges[i].length - r->offset) / UMIG_PAGE_SIZE;

		for (; page < end; page++) {
			uint64_t offset = region_page_offset(r, page);

			if (!pageset_claim(&r->set, page))
				continue;
			if (used && batch[used - 1].offset + batch[used - 1].length == offset) {
				batch[used - 1].length += UMIG_PAGE_SIZE;
				continue;
			}
			if (used == ZERO_BATCH) {
				ret = zero_flush(t, r, batch, used);
				if (ret)
					return ret < 0 ? ret : 0;
				used = 0;
			}
			batch[used++] = (struct postcopy_range){ offset, UMIG_PAGE_SIZE };
		}
	}
	ret = zero_flush(t, r, batch, used);
	return ret < 0 ? ret : 0;
}
