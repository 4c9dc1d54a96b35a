/* SPDX-License-Identifier: GPL-2.0 */
/* What people and programs see of a transfer while it runs, and at its end. */
#ifndef UMIG_PROGRESS_H
#define UMIG_PROGRESS_H

#include <jansson.h>
#include <stdbool.h>

#include "transfer/transfer.h"

/**
 * struct progress - what was shown last, and how
 * @json: JSON lines on stdout instead of a bar or lines on stderr
 */
struct progress {
	bool json;
	bool tty;
	uint64_t last_ns;
	uint64_t last_present;
	double rate;
	uint64_t started_ns;
};

void progress_init(struct progress *p, bool json);
void progress_show(struct progress *p, struct transfer *t);
void progress_show_now(struct progress *p, struct transfer *t);
void progress_line(struct progress *p, uint64_t present_pages, uint64_t total_pages,
		   const char *tail);
void progress_resumed(const struct progress *p, double load_ms, double resume_ms);
void progress_time(char *buf, size_t size, uint64_t ns);
void progress_end(struct progress *p);
json_t *progress_summary(struct transfer *t);
void progress_print_summary(struct transfer *t);

#endif
