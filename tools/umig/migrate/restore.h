/* SPDX-License-Identifier: GPL-2.0 */
/* umig restore: an incoming QEMU out of a snapshot. */
#ifndef UMIG_RESTORE_H
#define UMIG_RESTORE_H

#include <stdbool.h>
#include <stdint.h>

#include "migrate/incoming.h"
#include "migrate/snapshot_file.h"
#include "serve/serve.h"
#include "transfer/working_set.h"
#include "watch/progress.h"
#include "watch/watch.h"

/**
 * struct restore
 * @dir: the snapshot;  @uri: where its ram.raw is served, NULL: umig serves it
 * @record_s: read only what the guest touches for so long, and write that down; 0: not
 * @replay: read the pages of an earlier record first
 * @set: the working set that is recorded or replayed
 */
struct restore {
	const char *dir;
	const char *uri;
	uint64_t record_s;
	bool replay;

	struct incoming in;
	struct snapshot meta;
	struct page_server server;
	struct working_set set;
	int state_fd;
	struct progress progress;
	struct watch watch;
};

int restore_run(struct restore *re);

#endif
