/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Which pages of a RAM file a running VMM writes to, seen from outside: the kernel's soft-dirty
 * bits (Documentation/admin-guide/mm/soft-dirty.rst of Linux), by PAGEMAP_SCAN where there is one.
 */
#ifndef UMIG_TRACK_H
#define UMIG_TRACK_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define TRACK_MAX_MAPS	256

/**
 * struct track
 * @map: where the VMM had mapped the file when the bits were cleared
 * @scan: the kernel has PAGEMAP_SCAN
 */
struct track {
	pid_t pid;
	int pagemap;
	int clear;
	bool scan;
	const char *path;
	uint64_t size;
	dev_t dev;
	ino_t ino;
	unsigned int nr_maps;
	struct track_map {
		uint64_t start;
		uint64_t end;
		uint64_t offset;
	} map[TRACK_MAX_MAPS];
};

int track_check(const struct track *t);
int track_start(struct track *t, pid_t pid, const char *path, uint64_t size);
int track_clear(struct track *t);
int track_dirty(struct track *t, uint64_t *bitmap, uint64_t *nr_dirty);
void track_stop(struct track *t);

#endif
