/* SPDX-License-Identifier: GPL-2.0 */
/* Finding the regions of a process. */
#ifndef UMIG_FIND_H
#define UMIG_FIND_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

int find_open_context(void);
int find_regions(int context, pid_t pid, uint64_t **ids, size_t *nr_ids);

#endif
