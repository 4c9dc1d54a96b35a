/* SPDX-License-Identifier: GPL-2.0 */
/* umig snapshot: an outgoing QEMU into a directory. */
#ifndef UMIG_SNAPSHOT_H
#define UMIG_SNAPSHOT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "migrate/outgoing.h"
#include "migrate/snapshot_file.h"
#include "migrate/writes.h"
#include "watch/progress.h"
#include "watch/watch.h"

/**
 * struct snapshotter - a snapshot that is being taken
 * @dir: where it goes;  @pause: the guest stands still for the whole copy;  @json: option
 * @out_ram, @out_state: ram.raw and state.bin
 * @digest_stop: for digest_file(); never set
 * @buf: COPY_BLOCK bytes, page-aligned
 * @nr_dirty: pages that were copied again
 */
struct snapshotter {
	_Atomic bool digest_stop;
	const char *dir;
	bool pause;
	bool json;

	struct outgoing out;
	struct writes writes;
	int out_ram;
	int out_state;
	uint8_t *buf;
	uint64_t nr_dirty;
	struct snapshot meta;
	uint64_t started_ns;
	struct progress progress;
	struct watch watch;
};

int snapshot_run(struct snapshotter *sn);

#endif
