// SPDX-License-Identifier: GPL-2.0
/* Where a RAM file has data, and where holes. */
#define _GNU_SOURCE
#include <errno.h>
#include <unistd.h>

#include "lib/sparse.h"
#include "lib/umig.h"

/**
 * sparse_next - the first data at or after @offset, and what lies before it
 * @offset: a multiple of the page size, less than @size
 * @size: where to end
 *
 * A page that is partly data is data, and all is data in a file that cannot tell. Beyond the end of
 * the file there is nothing but a hole.
 *
 * Return: @offset <= @data <= @end <= @size, and @end > @offset; @data == @size: there is none.
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
	/* A hole that was made this moment begins at the data: its first page is read then. */
	if (hole >= 0)
		x.end = min_u64((max_u64((uint64_t)hole, x.data + 1) + UMIG_PAGE_SIZE - 1) &
				~(UMIG_PAGE_SIZE - 1), size);
	return x;
}
