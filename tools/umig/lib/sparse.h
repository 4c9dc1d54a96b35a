/* SPDX-License-Identifier: GPL-2.0 */
/* Where a RAM file has data, and where holes. */
#ifndef UMIG_SPARSE_H
#define UMIG_SPARSE_H

#include <stdint.h>

/* Whole pages: before @data there is a hole, from there to @end data. */
struct sparse_extent {
	uint64_t data;
	uint64_t end;
};

struct sparse_extent sparse_next(int fd, uint64_t offset, uint64_t size);

#endif
