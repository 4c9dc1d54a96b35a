// SPDX-License-Identifier: GPL-2.0
/* What people and programs see of a transfer while it runs, and at its end. */
#define _GNU_SOURCE
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/log.h"
#include "lib/lib.h"
#include "transfer/unreadable.h"
#include "watch/progress.h"

#define PROGRESS_BAR_NS		200000000ULL
#define PROGRESS_LINE_NS	2000000000ULL
#define PROGRESS_JSON_NS	500000000ULL

void progress_init(struct progress *p, bool json)
{
	memset(p, 0, sizeof(*p));
	p->json = json;
	p->tty = isatty(STDERR_FILENO);
	p->started_ns = now_ns();
}

static double mib(uint64_t pages)
{
	return (double)pages * UMIG_PAGE_SIZE / (1024.0 * 1024.0);
}

/* Is it time to show progress again? Also works out the smoothed rate since the last time. */
static bool progress_due(struct progress *p, uint64_t present)
{
	uint64_t now = now_ns(), every = p->tty ? PROGRESS_BAR_NS : PROGRESS_LINE_NS;
	double rate;

	if (p->json)
		every = PROGRESS_JSON_NS;
	if (p->last_ns && now - p->last_ns < every)
		return false;
	if (p->last_ns && present >= p->last_present) {
		rate = mib(present - p->last_present) * 1e9 / (double)(now - p->last_ns);
		p->rate = p->rate ? 0.7 * p->rate + 0.3 * rate : rate;
	}
	p->last_ns = now;
	p->last_present = present;
	return true;
}

/* A duration in at most six columns. */
void progress_time(char *buf, size_t size, uint64_t ns)
{
	if (ns < 1000000)
		snprintf(buf, size, "%" PRIu64 "us", ns / 1000);
	else if (ns < 10000000)
		snprintf(buf, size, "%.1fms", (double)ns / 1e6);
	else if (ns < 1000000000)
		snprintf(buf, size, "%" PRIu64 "ms", ns / 1000000);
	else
		snprintf(buf, size, "%.1fs", (double)ns / 1e9);
}

/*
 * One line of at most 79 columns:
 * 100% [##########] 1048576/1048576 MiB 1234.5 MiB/s ETA 99:59:59 tail
 */
static void progress_draw(struct progress *p, uint64_t present, uint64_t total,
			  const char *tail)
{
	static const char marks[] = "##########";
	unsigned int tenth = total ? (unsigned int)(present * 10 / total) : 10;
	double left = mib(total - present);
	char eta[40] = "ETA -", line[160];
	uint64_t s;

	if (present == total) {
		/* Nothing moves any more: the mean rate says more than that of the last moment. */
		s = now_ns() - p->started_ns;
		p->rate = s ? mib(total) * 1e9 / (double)s : 0;
		snprintf(eta, sizeof(eta), "whole");
	} else if (p->rate > 0.01 && left / p->rate < 359999) {
		s = (uint64_t)(left / p->rate);
		if (s < 3600)
			snprintf(eta, sizeof(eta), "ETA %" PRIu64 ":%02" PRIu64, s / 60, s % 60);
		else
			snprintf(eta, sizeof(eta), "ETA %" PRIu64 "h%02" PRIu64, s / 3600,
				 s / 60 % 60);
	}
	snprintf(line, sizeof(line), "%3u%% [%-10.*s] %.0f/%.0f MiB %.0f MiB/s %s %s",
		 total ? (unsigned int)(present * 100 / total) : 100, (int)tenth, marks,
		 mib(present), mib(total), p->rate, eta, tail);
	line[79] = '\0';
	if (p->tty)
		log_bar(line);
	else
		log_info("%s", line);
}

/* For the sender, which hears from the receiver how far the pages are. */
void progress_line(struct progress *p, uint64_t present_pages, uint64_t total_pages,
		   const char *tail)
{
	if (!progress_due(p, present_pages))
		return;
	if (p->json)
		log_json(json_pack("{s:s, s:f, s:I, s:I, s:f}", "event", "progress",
				   "seconds", (double)(now_ns() - p->started_ns) / 1e9,
					      "present_pages", (json_int_t)present_pages,
					      "total_pages", (json_int_t)total_pages,
					      "mib_per_s", p->rate));
	else
		progress_draw(p, present_pages, total_pages, tail);
}

static json_t *progress_fault(const struct progress *p, const struct fault *f)
{
	return json_pack("[f, I, I]", (double)(f->at_ns - p->started_ns) / 1e9,
			 (json_int_t)f->offset, (json_int_t)f->ns);
}

/* Prints the faults answered since the last time: [seconds, offset, nanoseconds] each. */
static void progress_faults(const struct progress *p, struct transfer *t)
{
	struct fault *faults;
	unsigned int nr, i;
	json_t *list;

	pthread_mutex_lock(&t->lock);
	faults = t->faults;
	nr = t->nr_faults;
	t->faults = NULL;
	t->nr_faults = 0;
	pthread_mutex_unlock(&t->lock);
	list = nr ? json_array() : NULL;
	for (i = 0; i < nr; i++)
		json_array_append_new(list, progress_fault(p, &faults[i]));
	if (nr)
		log_json(json_pack("{s:s, s:o}", "event", "faults", "faults", list));
	free(faults);
}

void progress_show(struct progress *p, struct transfer *t)
{
	uint64_t present = transfer_present_pages(t), total = transfer_total_pages(t);
	uint64_t demand = atomic_load(&t->pages[FILL_DEMAND]);
	uint64_t p50 = latency_percentile(&t->demand_latency, 50);
	uint64_t p99 = latency_percentile(&t->demand_latency, 99);
	char a[16], b[16], tail[64];

	if (!progress_due(p, present))
		return;
	if (p->json) {
		progress_faults(p, t);
		log_json(json_pack("{s:s, s:f, s:I, s:I, s:I, s:f, s:I, s:I, s:I}",
				   "event", "progress", "seconds",
					      (double)(now_ns() - p->started_ns) / 1e9,
					      "page_size", (json_int_t)UMIG_PAGE_SIZE,
					      "present_pages", (json_int_t)present,
					      "total_pages", (json_int_t)total,
					      "mib_per_s", p->rate,
					      "demand_pages", (json_int_t)demand,
					      "p50_ns", (json_int_t)p50,
					      "p99_ns", (json_int_t)p99));
		return;
	}
	progress_time(a, sizeof(a), p50);
	progress_time(b, sizeof(b), p99);
	snprintf(tail, sizeof(tail), "%" PRIu64 " faults %s/%s", demand, a, b);
	progress_draw(p, present, total, tail);
}

/* At once, whenever it was shown last. */
void progress_show_now(struct progress *p, struct transfer *t)
{
	p->last_ns = 0;
	progress_show(p, t);
}

/* With --json: the guest runs at the destination. */
void progress_resumed(const struct progress *p, double load_ms, double resume_ms)
{
	log_json(json_pack("{s:s, s:f, s:f, s:f}", "event", "resumed",
			   "seconds", (double)(now_ns() - p->started_ns) / 1e9,
				      "load_ms", load_ms, "resume_ms", resume_ms));
}

void progress_end(struct progress *p)
{
	if (p->tty && !p->json)
		log_bar_end();
}

static double background_rate(const struct transfer *t)
{
	uint64_t begin = atomic_load(&t->background_started_ns);
	uint64_t end = atomic_load(&t->complete_ns);

	if (!begin)
		return 0;
	if (!end)
		end = now_ns();
	if (end <= begin)
		return 0;
	return (double)atomic_load(&t->background_bytes) * 1e9 / (1024.0 * 1024.0) /
		(double)(end - begin);
}

/* The numbers of a transfer that has ended, as JSON. The caller may add to them. */
json_t *progress_summary(struct transfer *t)
{
	json_t *o =
		json_pack("{s:s, s:f, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:f}",
			  "event", "summary",
			  "seconds", (double)(now_ns() - t->started_ns) / 1e9,
			  "total_pages", (json_int_t)transfer_total_pages(t),
			  "present_pages", (json_int_t)transfer_present_pages(t),
			  "unreadable_pages", (json_int_t)unreadable_nr_pages(t),
			  "demand_pages", (json_int_t)atomic_load(&t->pages[FILL_DEMAND]),
			  "background_pages", (json_int_t)atomic_load(&t->pages[FILL_BACKGROUND]),
			  "zero_pages", (json_int_t)atomic_load(&t->pages[FILL_ZERO]),
			  "requests", (json_int_t)atomic_load(&t->nr_requests),
			  "reconnects", (json_int_t)atomic_load(&t->nr_reconnects),
			  "p50_ns", (json_int_t)latency_percentile(&t->demand_latency, 50),
			  "p99_ns", (json_int_t)latency_percentile(&t->demand_latency, 99),
			  "max_ns", (json_int_t)atomic_load(&t->demand_latency.max_ns),
			  "background_mib_per_s", background_rate(t));

	json_object_set_new(o, "repeated_pages",
			    json_integer((json_int_t)atomic_load(&t->nr_repeated)));
	return o;
}

void progress_print_summary(struct transfer *t)
{
	uint64_t unreadable = unreadable_nr_pages(t);
	char a[16], b[16], c[16];

	progress_time(a, sizeof(a), latency_percentile(&t->demand_latency, 50));
	progress_time(b, sizeof(b), latency_percentile(&t->demand_latency, 99));
	progress_time(c, sizeof(c), atomic_load(&t->demand_latency.max_ns));
	log_info("%.1f s: %" PRIu64 " of %" PRIu64 " pages present (%.0f MiB): %" PRIu64
		 " by demand, %" PRIu64 " by background, %" PRIu64 " zero",
		 (double)(now_ns() - t->started_ns) / 1e9, transfer_present_pages(t),
		 transfer_total_pages(t), mib(transfer_total_pages(t)),
		 atomic_load(&t->pages[FILL_DEMAND]), atomic_load(&t->pages[FILL_BACKGROUND]),
		 atomic_load(&t->pages[FILL_ZERO]));
	log_info("demand faults %" PRIu64 ": p50 %s, p99 %s, longest %s; background %.1f MiB/s; "
		 "%" PRIu64 " reconnects",
		 atomic_load(&t->demand_latency.count), a, b, c, background_rate(t),
		 atomic_load(&t->nr_reconnects));
	if (unreadable)
		log_error("%" PRIu64 " pages are missing because the source cannot read them",
			  unreadable);
}
