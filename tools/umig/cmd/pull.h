/* SPDX-License-Identifier: GPL-2.0 */
/* What pull and restore share. */
#ifndef UMIG_PULL_H
#define UMIG_PULL_H

#include "lib/digest.h"
#include "transfer/transfer.h"
#include "watch/progress.h"

int pull_wait(struct transfer *t, int signal_fd, struct progress *progress,
	      const struct digest *want, bool convert);

#endif
