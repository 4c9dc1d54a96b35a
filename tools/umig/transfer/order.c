// SPDX-License-Identifier: GPL-2.0
/*
 * What background reads next: first the working set of an earlier run, if there is one, then what
 * is missing from one cursor on. Demand moves the cursor to the last fault, because a guest is
 * likely to touch what is around it next. Before anything in a chunk is read, its block status is
 * asked, because zeros need no read.
 */
#define _GNU_SOURCE
#include "transfer/order.h"

/* How many pages before a page that somebody waits for are read along with those after it. */
#define FOLLOW_BEFORE	8ULL

/* Two faults no further apart than this may belong to one program that goes through memory. */
#define FOLLOW_NEAR	64ULL

static uint64_t chunk_end(const struct region *r, uint64_t chunk)
{
	return min_u64((chunk + 1) * CHUNK_PAGES, r->set.nr_pages);
}

/* Return: the page up to which it is known what of this chunk is zero. */
static uint64_t chunk_known(const struct region *r, uint64_t chunk,
			    const struct order_limits *limits)
{
	if (!limits->has_status)
		return chunk_end(r, chunk);
	return chunk * CHUNK_PAGES + (r->chunk[chunk] & ~CHUNK_ASKED);
}

static struct order order_read(struct region *r, uint64_t page, uint64_t nr)
{
	return (struct order){ .kind = ORDER_READ, .region = r, .page = page, .nr = nr };
}

/*
 * Asks about the unknown rest of a chunk. A chunk for which a query is in flight is left out: its
 * pages are work for the thread that asks, or come round again.
 */
static struct order order_query(struct region *r, uint64_t chunk,
				const struct order_limits *limits)
{
	struct order o = { .kind = ORDER_NOTHING };

	if (r->chunk[chunk] & CHUNK_ASKED || limits->is_asking)
		return o;
	o.kind = ORDER_QUERY;
	o.region = r;
	o.page = chunk_known(r, chunk, limits);
	o.nr = chunk_end(r, chunk) - o.page;
	return o;
}

/* The next work at or after page @from of @r, before @end. */
static struct order order_forward(struct region *r, uint64_t from, uint64_t end,
				  const struct order_limits *limits)
{
	struct order o = { .kind = ORDER_NOTHING };

	while (from < end) {
		uint64_t index = pageset_find(&r->set, from, end), chunk, known;

		if (index >= end)
			break;
		chunk = index / CHUNK_PAGES;
		known = chunk_known(r, chunk, limits);
		if (index < known)
			return order_read(r, index, pageset_run(&r->set, index,
								min_u64(limits->max_pages,
									known - index)));
		o = order_query(r, chunk, limits);
		if (o.kind != ORDER_NOTHING)
			break;
		from = chunk_end(r, chunk);
	}
	return o;
}

/* The next work before page @end of @r, the nearest pages first. */
static struct order order_backward(struct region *r, uint64_t end,
				   const struct order_limits *limits)
{
	uint64_t chunk, first, nr;

	end = pageset_find_back(&r->set, end);
	if (!end)
		return (struct order){ .kind = ORDER_NOTHING };
	chunk = (end - 1) / CHUNK_PAGES;
	first = chunk * CHUNK_PAGES;
	if (end > chunk_known(r, chunk, limits))
		return order_query(r, chunk, limits);
	nr = pageset_run_back(&r->set, end, min_u64(limits->max_pages, end - first));
	return order_read(r, end - nr, nr);
}

/*
 * The next pages of the working set that are missing and that nobody reads. They are few and wanted
 * soon, so nobody asks first whether they are zero.
 */
static struct order order_replay(struct transfer *t, const struct order_limits *limits)
{
	struct working_set *ws = t->replay;
	unsigned int i;

	for (; ws->next < ws->nr; ws->next++) {
		const struct working_set_run *run = &ws->run[ws->next];

		for (i = 0; i < t->nr_regions; i++) {
			struct region *r = &t->regions[i];
			uint64_t base = region_first_page(r);
			uint64_t from = max_u64(run->first, base) - base;
			uint64_t end = run->first + run->nr;

			end = end < base ? 0 : min_u64(end - base, r->set.nr_pages);
			if (from < end)
				from = pageset_find(&r->set, from, end);
			if (from < end)
				return order_read(r, from,
						  pageset_run(&r->set, from,
							      min_u64(limits->max_pages,
								      end - from)));
		}
	}
	return (struct order){ .kind = ORDER_NOTHING };
}

/**
 * order_next - what a background thread is to do next
 *
 * After the working set: backward from the cursor if a guest goes backward, otherwise from the
 * cursor once round all regions.
 *
 * Context: under the transfer's lock.
 */
struct order order_next(struct transfer *t, const struct order_limits *limits)
{
	struct order o = { .kind = ORDER_NOTHING };
	unsigned int i;

	if (t->replay)
		o = order_replay(t, limits);
	if (o.kind == ORDER_READ)
		return o;
	if (t->cursor_back) {
		o = order_backward(&t->regions[t->cursor_region], t->cursor_page, limits);
		if (o.kind == ORDER_READ)
			t->cursor_page = o.page;
		if (o.kind != ORDER_NOTHING)
			return o;
	}
	for (i = 0; i <= t->nr_regions; i++) {
		unsigned int at = (t->cursor_region + i) % t->nr_regions;
		struct region *r = &t->regions[at];
		uint64_t from = i ? 0 : t->cursor_page;
		uint64_t end = i == t->nr_regions ? t->cursor_page : r->set.nr_pages;

		o = order_forward(r, from, end, limits);
		if (o.kind == ORDER_READ) {
			t->cursor_region = at;
			t->cursor_page = o.page + o.nr;
			t->cursor_back = false;
		}
		if (o.kind != ORDER_NOTHING)
			break;
	}
	return o;
}

/* Is @page a little before the nearest of the recent faults? */
static bool order_goes_back(const struct region *r, uint64_t page)
{
	uint64_t nearest = FOLLOW_NEAR + 1;
	bool back = false;
	unsigned int i;

	for (i = 0; i < min_u64(r->nr_faults, RECENT_FAULTS); i++) {
		uint64_t other = r->fault[i];
		uint64_t distance = other > page ? other - page : page - other;

		if (distance && distance < nearest) {
			nearest = distance;
			back = other > page;
		}
	}
	return back;
}

/**
 * order_follow - somebody waits for @page of @r: background reads around it next
 *
 * Most of what is read next lies behind the page (the bubble of Hines and Gopalan, VEE 2009, which
 * programs make lopsided). It lies before the page if somebody seems to go backward, which is found
 * out as the kernel's readahead from swap does it (swap_vma_readahead()). Several vCPUs each go
 * their own way, often near each other.
 *
 * Context: takes the transfer's lock.
 */
void order_follow(struct transfer *t, struct region *r, uint64_t page)
{
	pthread_mutex_lock(&t->lock);
	t->cursor_back = order_goes_back(r, page);
	r->fault[r->nr_faults++ % RECENT_FAULTS] = page;
	t->cursor_region = (unsigned int)(r - t->regions);
	t->cursor_page = t->cursor_back ? page : page - min_u64(page, FOLLOW_BEFORE);
	/* Without memory the recorded list ends here. */
	if (t->record && working_set_add(t->record, region_first_page(r) + page))
		t->record = NULL;
	pthread_mutex_unlock(&t->lock);
}
