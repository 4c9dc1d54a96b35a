// SPDX-License-Identifier: GPL-2.0
/* Where a RAM file has data, and where holes. */
#define _GNU_SOURCE
#include <errno.h>
#include <unistd.h>

#include "lib/sparse.h"
#include "lib/lib.h"

/**
 * sparse_next - the first data at or after @offset, and the hole before it
 * @offset: a multiple of the page size, less than @size
 * @size: where to end
 *
 * A page that is partly data counts as data. If the file system cannot tell, everything counts as
 * data. Beyond the end of the file everything is a hole.
 *
 * Return: @offset <= @data <= @end <= @size, and @end > @offset; @data == @size: no data is left.
 */
struct sparse_extent sparse_next(int fd, uint64_t offset, uint64_t size)
{
	struct sparse_extent x = { .data = offset, .end = size };
	off_t data = lseek(fd, (off_t)offset, SEEK_DATA), hole;

	if (data < 0) {
		if (errno == ENXIO)
			x.data = size;
		return x;
	}
	x.data = min_u64((uint64_t)data & ~(UMIG_PAGE_SIZE - 1), size);
	hole = lseek(fd, data, SEEK_HOLE);
	/* If a hole was punched just now at @data, its first page counts as data. */
	if (hole >= 0)
		x.end = min_u64((max_u64((uint64_t)hole, x.data + 1) + UMIG_PAGE_SIZE - 1) &
				~(UMIG_PAGE_SIZE - 1), size);
	return x;
}
