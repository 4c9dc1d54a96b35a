/* SPDX-License-Identifier: GPL-2.0 */
/* The regions of a process. */
#ifndef UMIG_REGIONS_H
#define UMIG_REGIONS_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

int regions_open_context(void);
int regions_of(int context, pid_t pid, uint64_t **ids, size_t *nr_ids);
const char *regions_state_name(uint32_t state);

#endif
