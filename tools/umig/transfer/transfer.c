// SPDX-License-Identifier: GPL-2.0
/* A transfer's life: attach, start, stop, convert; what its threads report. */
#define _GNU_SOURCE
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "device/device.h"
#include "lib/lib.h"
#include "lib/log.h"
#include "transfer/transfer.h"

int transfer_init(struct transfer *t, const char *uri)
{
	memset(t, 0, sizeof(*t));
	t->uri = uri;
	t->nr_connections = 2;
	t->timeout_ms = 30000;
	t->context = -1;
	pthread_mutex_init(&t->lock, NULL);
	t->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	t->background_stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	t->release_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	t->done_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	t->awaited_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	t->started_ns = now_ns();
	if (t->stop_fd < 0 || t->background_stop_fd < 0 || t->release_fd < 0 || t->done_fd < 0 ||
	    t->awaited_fd < 0)
		return -errno;
	return 0;
}

/* Two regions that overlap in the RAM image would need two images. */
static int transfer_check_overlap(const struct transfer *t)
{
	unsigned int i, j;

	for (i = 0; i < t->nr_regions; i++) {
		for (j = 0; j < i; j++) {
			const struct region *a = &t->regions[i], *b = &t->regions[j];

			if (a->offset < b->offset + b->length &&
			    b->offset < a->offset + a->length) {
				log_error("cannot fill regions %" PRIu64 " and %" PRIu64
					  " from one source: both begin at or cover offset %" PRIu64
					  "; give each its own 'umig pull --region ID --from URI'",
					  b->id, a->id, max_u64(a->offset, b->offset));
				return -EINVAL;
			}
		}
	}
	return 0;
}

/**
 * transfer_attach - become the helper of these regions and learn what they miss
 * @context: a context fd; closed by transfer_destroy()
 *
 * Return: 0 or -errno, having said why.
 */
int transfer_attach(struct transfer *t, int context, const uint64_t *ids, unsigned int nr_ids)
{
	unsigned int i;
	int ret;

	t->context = context;
	t->regions = calloc(nr_ids, sizeof(*t->regions));
	if (!t->regions)
		return -ENOMEM;
	t->whole_view = true;
	for (i = 0; i < nr_ids; i++)
		t->regions[i].helper = -1;
	for (i = 0; i < nr_ids; i++) {
		t->nr_regions = i + 1;
		ret = region_attach(&t->regions[i], t->context, ids[i]);
		if (ret)
			return ret;
		if (atomic_load(&t->regions[i].set.nr_present))
			t->whole_view = false;
	}
	return transfer_check_overlap(t);
}

static int transfer_start(struct transfer *t, pthread_t *thread, void *(*fn)(void *))
{
	int ret = pthread_create(thread, NULL, fn, t);

	if (ret)
		log_error("cannot start a thread: %s", strerror(ret));
	return -ret;
}

/* Demand connects and collects requests. It answers them after transfer_release(). */
int transfer_start_demand(struct transfer *t)
{
	int ret = transfer_start(t, &t->demand, demand_thread);

	t->demand_started = !ret;
	return ret;
}

/*
 * The contents of the source are final from here on. A page read before might have changed since,
 * and would be wrong for ever.
 */
void transfer_release(struct transfer *t)
{
	eventfd_write(t->release_fd, 1);
}

int transfer_start_background(struct transfer *t)
{
	eventfd_t value;
	int ret = 0;

	/* Background may have been stopped before. */
	if (eventfd_read(t->background_stop_fd, &value) && errno != EAGAIN)
		return -errno;
	atomic_store(&t->stopping, false);
	if (!atomic_load(&t->background_started_ns))
		atomic_store(&t->background_started_ns, now_ns());
	while (t->nr_background < t->nr_connections) {
		ret = transfer_start(t, &t->background[t->nr_background], background_thread);
		if (ret)
			break;
		t->nr_background++;
	}
	return ret;
}

/* Drops what is in flight: no read that was begun before this call fills a page after it. */
void transfer_stop_background(struct transfer *t)
{
	atomic_store(&t->stopping, true);
	eventfd_write(t->background_stop_fd, 1);
	while (t->nr_background)
		pthread_join(t->background[--t->nr_background], NULL);
	/* Demand goes on. */
	atomic_store(&t->stopping, false);
}

/* @rate: bytes per second, 0: no limit. May be called at any time. */
void transfer_set_rate(struct transfer *t, uint64_t rate)
{
	pthread_mutex_lock(&t->lock);
	atomic_store(&t->rate, rate);
	/* A read that the old rate has put off is due now. */
	t->next_read_ns = 0;
	pthread_mutex_unlock(&t->lock);
}

void transfer_stop(struct transfer *t)
{
	eventfd_write(t->stop_fd, 1);
	transfer_stop_background(t);
	atomic_store(&t->stopping, true);
	if (t->demand_started)
		pthread_join(t->demand, NULL);
	t->demand_started = false;
}

/* Detaches. The threads must be stopped. */
void transfer_destroy(struct transfer *t)
{
	unsigned int i;

	for (i = 0; i < t->nr_regions; i++)
		region_detach(&t->regions[i]);
	free(t->regions);
	free(t->faults);
	if (t->context >= 0)
		close(t->context);
	close(t->stop_fd);
	close(t->background_stop_fd);
	close(t->release_fd);
	close(t->done_fd);
	close(t->awaited_fd);
	pthread_mutex_destroy(&t->lock);
}

bool transfer_is_complete(const struct transfer *t)
{
	unsigned int i;

	for (i = 0; i < t->nr_regions; i++) {
		if (!pageset_is_complete(&t->regions[i].set))
			return false;
	}
	return true;
}

/* The module misses pages that were thought present. Return: 0 or -errno. */
static int transfer_start_over(struct transfer *t, struct region *r)
{
	bool filling = t->nr_background;
	int ret;

	transfer_stop_background(t);
	pthread_mutex_lock(&t->lock);
	ret = region_start_over(r);
	pthread_mutex_unlock(&t->lock);
	return !ret && filling ? transfer_start_background(t) : ret;
}

/**
 * transfer_convert - turn the regions into ordinary memory; demand may still run
 *
 * Return: 0; -EAGAIN the module misses pages that were thought present: they are read again, and
 * the caller tries again when the transfer is complete; another -errno, having said why.
 */
int transfer_convert(struct transfer *t)
{
	unsigned int i;

	for (i = 0; i < t->nr_regions; i++) {
		struct region *r = &t->regions[i];
		uint64_t nr_missing = 0;
		int ret;

		/* A process that maps a shared region later needs its context. */
		ret = dev_convert(r->helper, r->memory ? 0 : POSTCOPY_CONVERT_RETIRE_CONTEXT,
				  &nr_missing);
		if (ret == -EALREADY || !ret)
			continue;
		if (ret == -EBUSY) {
			log_info("region %" PRIu64 " still misses %" PRIu64 " pages, going on",
				 r->id, nr_missing);
			ret = transfer_start_over(t, r);
			return ret ? ret : -EAGAIN;
		}
		if (ret == -ESRCH) {
			transfer_region_ended(t, r);
			return ret;
		}
		log_error("cannot convert region %" PRIu64 ": %s; "
			  "its pages are all present, run 'umig pull' again",
			  r->id, strerror(-ret));
		return ret;
	}
	return 0;
}

/* Ends the transfer with @exit_code. The first reason counts. */
void transfer_fail(struct transfer *t, int exit_code)
{
	int none = 0;

	atomic_compare_exchange_strong(&t->exit_code, &none, exit_code);
	eventfd_write(t->done_fd, 1);
}

/* The digest of what this transfer has filled. */
static void transfer_digest(const struct transfer *t, struct digest *out)
{
	out->nr_zero = atomic_load(&t->digest_zero);
	out->nr_data = atomic_load(&t->digest_data);
	out->sum = atomic_load(&t->digest_sum);
}

uint64_t transfer_total_pages(const struct transfer *t)
{
	uint64_t nr = 0;
	unsigned int i;

	for (i = 0; i < t->nr_regions; i++)
		nr += t->regions[i].set.nr_pages;
	return nr;
}

uint64_t transfer_present_pages(const struct transfer *t)
{
	uint64_t nr = 0;
	unsigned int i;

	for (i = 0; i < t->nr_regions; i++)
		nr += atomic_load(&t->regions[i].set.nr_present);
	return nr;
}

/* Return: why the transfer cannot go on (enum umig_exit), 0 as long as it can. */
int transfer_exit_code(const struct transfer *t)
{
	return atomic_load(&t->exit_code);
}

/**
 * transfer_agrees - did what came agree with what was to come?
 * @want: counts and digest of the RAM image
 * @why: gets the difference, for a message
 *
 * If pages were present before this transfer began, its digest does not cover them, and only the
 * number of pages is compared.
 *
 * Return: true if they agree.
 */
bool transfer_agrees(const struct transfer *t, const struct digest *want, char *why, size_t size)
{
	struct digest got;

	transfer_digest(t, &got);
	if (want->nr_zero + want->nr_data ==
		    transfer_total_pages(t) * (UMIG_PAGE_SIZE / DIGEST_UNIT) &&
	    (!t->whole_view || digest_equals(&got, want)))
		return true;
	snprintf(why, size, "the contents differ: %" PRIu64 " data and %" PRIu64
		 " zero pages of 4 KiB, digest %016" PRIx64 ", came instead of %" PRIu64
		 ", %" PRIu64 " and %016" PRIx64
		 "; nothing is converted, keep both sides for inspection",
		 got.nr_data, got.nr_zero, got.sum, want->nr_data, want->nr_zero, want->sum);
	return false;
}

/* Is the export large enough? If not, the transfer fails. */
bool transfer_fits(struct transfer *t, const struct source *s)
{
	unsigned int i;

	for (i = 0; i < t->nr_regions; i++) {
		const struct region *r = &t->regions[i];

		if (s->size >= r->offset + r->length)
			continue;
		if (!atomic_load(&t->exit_code))
			log_error("cannot fill region %" PRIu64 " from %s: the export has %" PRIu64
				  " bytes, the region ends at %" PRIu64 "; "
				  "nothing was filled, give the export of the right image",
				  r->id, t->uri, s->size, r->offset + r->length);
		transfer_fail(t, UMIG_REFUSED);
		return false;
	}
	return true;
}

/* Called after POLLHUP, ESRCH or EALREADY. Return: true if the region has really ended. */
bool transfer_region_ended(struct transfer *t, struct region *r)
{
	struct postcopy_region_info info;
	int ret = dev_region_info(r->helper, 0, &info);

	if (!ret && info.out_state == POSTCOPY_REGION_CONVERTED) {
		eventfd_write(t->done_fd, 1);
		return true;
	}
	if (!ret && info.out_state != POSTCOPY_REGION_DEAD)
		return false;
	if (atomic_load(&t->exit_code))
		return true;
	if (ret)
		log_error("cannot ask for the state of region %" PRIu64 ": %s", r->id,
			  strerror(-ret));
	else
		log_error("region %" PRIu64 " is gone: its VMM has ended or unmapped it; "
			  "nothing is left to fill",
			  r->id);
	transfer_fail(t, ret ? UMIG_FAILED : UMIG_GONE);
	return true;
}

/* Says once that the source is lost. @who: the connection that noticed. */
void transfer_source_lost(struct transfer *t, const void *who, const char *why)
{
	bool first;

	pthread_mutex_lock(&t->lock);
	first = !t->lost_by;
	if (first) {
		t->lost_by = who;
		t->lost_ns = now_ns();
	}
	pthread_mutex_unlock(&t->lock);
	if (first)
		log_error("no connection to the source %s: %s; "
			  "faults wait, trying again until it is back",
			  t->uri, why);
}

void transfer_source_back(struct transfer *t, const void *who)
{
	bool back;

	pthread_mutex_lock(&t->lock);
	back = t->lost_by == who;
	if (back)
		t->lost_by = NULL;
	pthread_mutex_unlock(&t->lock);
	if (back)
		log_info("the source %s is back", t->uri);
}

/* With --json, keeps the fault until progress_show() prints it. */
void transfer_note_fault(struct transfer *t, uint64_t offset, uint64_t ns)
{
	if (!t->json)
		return;
	pthread_mutex_lock(&t->lock);
	if (!t->faults)
		t->faults = calloc(MAX_FAULTS, sizeof(*t->faults));
	if (t->faults && t->nr_faults < MAX_FAULTS)
		t->faults[t->nr_faults++] = (struct fault){ now_ns(), offset, ns };
	pthread_mutex_unlock(&t->lock);
}

/*
 * Demand wants to read @page of @r. Return: true: background leaves the page out until
 * transfer_unreserve(); false: background is reading or installing the page, and @awaited_fd tells
 * when a read is over.
 */
bool transfer_reserve(struct transfer *t, struct region *r, uint64_t page)
{
	bool mine;

	pthread_mutex_lock(&t->lock);
	mine = !pageset_is_assigned(&r->set, page) && !pageset_is_claimed(&r->set, page);
	if (mine)
		pageset_assign(&r->set, page, 1);
	else
		t->awaited = true;
	pthread_mutex_unlock(&t->lock);
	return mine;
}

/* Under the lock. Background has ended a read or a query: its pages have come or are free again. */
void transfer_read_ended(struct transfer *t)
{
	if (t->awaited)
		eventfd_write(t->awaited_fd, 1);
	t->awaited = false;
}

/* The read of demand is over. */
void transfer_unreserve(struct transfer *t, struct region *r, uint64_t page)
{
	pthread_mutex_lock(&t->lock);
	pageset_give_back(&r->set, page, 1);
	pthread_mutex_unlock(&t->lock);
}

void transfer_stop_recording(struct transfer *t)
{
	pthread_mutex_lock(&t->lock);
	t->record = NULL;
	pthread_mutex_unlock(&t->lock);
}
