/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A snapshot: a directory with a guest in it.
 *
 *	ram.raw		the RAM image, sparse: any NBD server can serve its pages
 *	state.bin	QEMU's device state, as in a migration
 *	meta.json	describes both; written last, so a directory without it is no snapshot
 *	working_set.json the pages that a restored guest touched first, if 'restore --record' has
 *			recorded them
 */
#ifndef UMIG_SNAPSHOT_FILE_H
#define UMIG_SNAPSHOT_FILE_H

#include "lib/digest.h"
#include "migrate/migrate.h"

#define SNAPSHOT_RAM	"ram.raw"
#define SNAPSHOT_STATE	"state.bin"
#define SNAPSHOT_META	"meta.json"
#define SNAPSHOT_SET	"working_set.json"

/**
 * struct snapshot - what meta.json says
 * @state_bytes, @state_sum: of state.bin
 * @digest: of ram.raw
 */
struct snapshot {
	struct guest guest;
	uint64_t state_bytes;
	uint64_t state_sum;
	struct digest digest;
};

int snapshot_save(const char *dir, const struct snapshot *s);
int snapshot_load(const char *dir, struct snapshot *s);
const char *snapshot_check_dir(const char *dir);

#endif
