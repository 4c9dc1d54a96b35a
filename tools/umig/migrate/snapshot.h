/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A snapshot: a directory with a guest in it.
 *
 *	ram.raw		the RAM image, sparse: any NBD server can be the source of its pages
 *	state.bin	QEMU's device state, as in a migration
 *	meta.json	what the two are; written last, so a directory without it is no snapshot
 *	working_set.json which pages a restored guest touched first, if 'restore --record'
 *			was told to find out
 */
#ifndef UMIG_SNAPSHOT_H
#define UMIG_SNAPSHOT_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/digest.h"

#define SNAPSHOT_RAM	"ram.raw"
#define SNAPSHOT_STATE	"state.bin"
#define SNAPSHOT_META	"meta.json"
#define SNAPSHOT_SET	"working_set.json"

struct snapshot {
	char ram_id[128];
	uint64_t ram_size;
	uint64_t page_size;
	bool running;
	uint64_t state_bytes;
	uint64_t state_sum;
	struct digest digest;
};

int snapshot_save(const char *dir, const struct snapshot *s);
int snapshot_load(const char *dir, struct snapshot *s);

#endif
