/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The pages that a guest touched first, in that order: recorded in one restore, read ahead in the
 * next. The idea is from REAP (Ustiugov et al., ASPLOS 2021): a restored guest touches much the
 * same pages each time, and they are a small part of its memory.
 */
#ifndef UMIG_WORKING_SET_H
#define UMIG_WORKING_SET_H

#include <stddef.h>
#include <stdint.h>

/**
 * struct working_set - runs of pages of the RAM image
 * @nr, @room: of @run
 * @next: replay: the runs before it are read or being read; under the transfer's lock
 */
struct working_set {
	struct working_set_run {
		uint64_t first;
		uint64_t nr;
	} *run;
	size_t nr;
	size_t room;
	size_t next;
};

int working_set_add(struct working_set *ws, uint64_t page);
uint64_t working_set_pages(const struct working_set *ws);
int working_set_save(const struct working_set *ws, const char *path, uint64_t nr_pages);
int working_set_load(struct working_set *ws, const char *path, uint64_t nr_pages);
void working_set_destroy(struct working_set *ws);

#endif
