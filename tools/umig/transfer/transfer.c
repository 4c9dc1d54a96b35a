// SPDX-License-Identifier: GPL-2.0
/* A transfer's life: attach, start, stop, convert; what its threads report. */
#define _GNU_SOURCE
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "device/dev.h"
#include "lib/log.h"
#include "lib/umig.h"
#include "transfer/place.h"
#include "transfer/transfer.h"

/* So many pages before a page that somebody waits for come with those behind it. */
#define FOLLOW_BEFORE	8ULL

/* Two faults no further apart than that may be those of one who goes through memory. */
#define FOLLOW_NEAR	64ULL

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

static void eventfd_set(int fd)
{
	uint64_t one = 1;

	/* The only error, EAGAIN at 2^64 - 2, leaves it readable, which is what is wanted. */
	if (write(fd, &one, sizeof(one)) < 0)
		return;
}

static int region_query(struct region *r)
{
	uint64_t *bitmap = calloc(r->set.nr_words, sizeof(*bitmap));
	int ret;

	if (!bitmap)
		return -ENOMEM;
	ret = dev_query(r->helper, r->offset, r->length, bitmap);
	if (!ret)
		pageset_load(&r->set, bitmap);
	free(bitmap);
	return ret;
}

static void region_attach_failed(uint64_t id, int error)
{
	const char *advice = "";

	if (error == -EBUSY)
		advice = "; another helper is attached, see 'umig list'";
	else if (error == -EPERM)
		advice = "; run umig as the VMM's user or as root";
	else if (error == -ENOENT || error == -ESRCH)
		advice = "; there is no such region any more, see 'umig list'";
	log_error("cannot attach to region %" PRIu64 ": %s%s", id, strerror(-error), advice);
}

static int region_attach(struct transfer *t, struct region *r, uint64_t id)
{
	struct postcopy_region_info info;
	uint64_t nr_chunks;
	int ret;

	r->id = id;
	r->helper = dev_attach(t->context, id);
	if (r->helper < 0) {
		ret = r->helper;
		goto err;
	}
	ret = dev_region_info(r->helper, 0, &info);
	if (ret)
		goto err;
	r->offset = info.out_offset;
	r->length = info.out_length;
	ret = pageset_init(&r->set, r->length / UMIG_PAGE_SIZE);
	if (ret)
		goto err;
	nr_chunks = (r->set.nr_pages + CHUNK_PAGES - 1) / CHUNK_PAGES;
	r->chunk = calloc(nr_chunks, sizeof(*r->chunk));
	ret = r->chunk ? region_query(r) : -ENOMEM;
	if (!ret && info.out_region_flags & POSTCOPY_REGION_SHARED)
		ret = place_map(r);
	if (ret)
		goto err;
	return 0;
err:
	region_attach_failed(id, ret);
	return ret;
}

/* Two regions that hold the same image offsets would need two images. */
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
		ret = region_attach(t, &t->regions[i], ids[i]);
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

/* Demand connects and collects requests, and answers them after transfer_release(). */
int transfer_start_demand(struct transfer *t)
{
	int ret = transfer_start(t, &t->demand, demand_thread);

	t->demand_started = !ret;
	return ret;
}

/*
 * From here on the source's contents are final. Before, they may still change, and a page read
 * now would be wrong for ever.
 */
void transfer_release(struct transfer *t)
{
	eventfd_set(t->release_fd);
}

int transfer_start_background(struct transfer *t)
{
	uint64_t value;
	int ret = 0;

	/* It may have been stopped before. */
	if (read(t->background_stop_fd, &value, sizeof(value)) < 0 && errno != EAGAIN)
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

/* What is in flight is dropped: after this no read that was begun before it fills a page. */
void transfer_stop_background(struct transfer *t)
{
	atomic_store(&t->stopping, true);
	eventfd_set(t->background_stop_fd);
	while (t->nr_background)
		pthread_join(t->background[--t->nr_background], NULL);
	/* Demand goes on. */
	atomic_store(&t->stopping, false);
}

/* At any time; 0: no limit. */
void transfer_set_rate(struct transfer *t, uint64_t rate)
{
	pthread_mutex_lock(&t->lock);
	atomic_store(&t->rate, rate);
	/* What the old rate has put off is due under the new one. */
	t->next_read_ns = 0;
	pthread_mutex_unlock(&t->lock);
}

void transfer_stop(struct transfer *t)
{
	eventfd_set(t->stop_fd);
	transfer_stop_background(t);
	atomic_store(&t->stopping, true);
	if (t->demand_started)
		pthread_join(t->demand, NULL);
	t->demand_started = false;
}

/* The threads are stopped. Detaches. */
void transfer_destroy(struct transfer *t)
{
	unsigned int i;

	for (i = 0; i < t->nr_regions; i++) {
		struct region *r = &t->regions[i];

		place_unmap(r);
		pageset_destroy(&r->set);
		free(r->chunk);
		free(r->sum);
		free((void *)r->data);
		if (r->helper >= 0)
			dev_detach(r->helper);
	}
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

/* What is missing is asked of the kernel again. */
static int region_start_over(struct transfer *t, struct region *r)
{
	bool filling = t->nr_background;
	int ret;

	transfer_stop_background(t);
	pthread_mutex_lock(&t->lock);
	ret = region_query(r);
	/* Nothing that demand has ever taken may be received where it is not seen. */
	if (!ret && r->memory)
		ret = place_map(r);
	pthread_mutex_unlock(&t->lock);
	return !ret && filling ? transfer_start_background(t) : ret;
}

/**
 * transfer_convert - turn the regions into ordinary memory; demand may still run
 *
 * Return: 0; -EAGAIN the kernel misses pages that were thought present: they are missing here
 * too now, call again when complete; another -errno, having said why.
 */
int transfer_convert(struct transfer *t)
{
	unsigned int i;

	for (i = 0; i < t->nr_regions; i++) {
		struct region *r = &t->regions[i];
		uint64_t nr_missing = 0;
		int ret;

		/* Who maps a shared region later needs its context. */
		ret = dev_convert(r->helper, r->memory ? 0 : POSTCOPY_CONVERT_RETIRE_CONTEXT,
				  &nr_missing);
		if (ret == -EALREADY || !ret)
			continue;
		if (ret == -EBUSY) {
			log_info("region %" PRIu64 " still misses %" PRIu64 " pages, going on",
				 r->id, nr_missing);
			ret = region_start_over(t, r);
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

/* The first reason counts. */
void transfer_fail(struct transfer *t, int exit_code)
{
	int none = 0;

	atomic_compare_exchange_strong(&t->exit_code, &none, exit_code);
	eventfd_set(t->done_fd);
}

/* The digest of what this transfer has filled. */
void transfer_digest(const struct transfer *t, struct digest *out)
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

/* After POLLHUP, ESRCH or EALREADY. Return: true if the region has really ended. */
bool transfer_region_ended(struct transfer *t, struct region *r)
{
	struct postcopy_region_info info;
	int ret = dev_region_info(r->helper, 0, &info);

	if (!ret && info.out_state == POSTCOPY_REGION_CONVERTED) {
		eventfd_set(t->done_fd);
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

/* Says once that the source is lost, for whichever thread notices first. */
void transfer_lost(struct transfer *t, const void *who, const char *why)
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

void transfer_back(struct transfer *t, const void *who)
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

/* With --json: kept until progress_show() prints them. */
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

/* Is @page a little before the nearest of the last faults? */
static bool transfer_goes_back(const struct region *r, uint64_t page)
{
	uint64_t nearest = FOLLOW_NEAR + 1;
	bool back = false;
	unsigned int i;

	for (i = 0; i < min_u64(r->nr_faults, FOLLOW_FAULTS); i++) {
		uint64_t other = r->fault[i];
		uint64_t distance = other > page ? other - page : page - other;

		if (distance && distance < nearest) {
			nearest = distance;
			back = other > page;
		}
	}
	return back;
}

/*
 * Somebody waits for @page of @r: what comes next in the background is what is around it, most of
 * it behind (the bubble of Hines and Gopalan, VEE 2009, which programs make lopsided); what is
 * before it if somebody seems to go backwards (as the kernel's readahead from swap,
 * swap_vma_readahead(), tells it). Several vCPUs each go their own way, often near each other.
 */
void transfer_follow(struct transfer *t, struct region *r, uint64_t page)
{
	pthread_mutex_lock(&t->lock);
	t->cursor_back = transfer_goes_back(r, page);
	r->fault[r->nr_faults++ % FOLLOW_FAULTS] = page;
	t->cursor_region = (unsigned int)(r - t->regions);
	t->cursor_page = t->cursor_back ? page : page - min_u64(page, FOLLOW_BEFORE);
	/* Without memory it is a shorter list. */
	if (t->record && working_set_add(t->record, r->offset / UMIG_PAGE_SIZE + page))
		t->record = NULL;
	pthread_mutex_unlock(&t->lock);
}

/*
 * Demand reads @page of @r: background leaves it out until transfer_unreserve(). Return: false:
 * background is reading or installing it, and @awaited_fd tells when a read is over.
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

/* Under the lock. Background has ended a read or a query: its pages have come, or are free. */
void transfer_read_ended(struct transfer *t)
{
	if (t->awaited)
		eventfd_set(t->awaited_fd);
	t->awaited = false;
}

/* Demand's read is over. */
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
