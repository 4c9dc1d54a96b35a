// SPDX-License-Identifier: GPL-2.0
/* Where a file has data. */
#define _GNU_SOURCE
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "lib/sparse.h"
#include "lib/lib.h"
#include "tap.h"

#define NR	64ULL

/* Does a walk find exactly the pages that have data, and come to its end? */
static bool walk_agrees(int fd, const bool *data, uint64_t nr)
{
	bool found[NR] = { false };
	uint64_t offset = 0;
	unsigned int steps;

	for (steps = 0; offset < nr * UMIG_PAGE_SIZE; steps++) {
		struct sparse_extent x = sparse_next(fd, offset, nr * UMIG_PAGE_SIZE);
		uint64_t at;

		if (steps > nr || x.data < offset || x.end < x.data || x.end <= offset ||
		    x.end > nr * UMIG_PAGE_SIZE || (x.data | x.end) % UMIG_PAGE_SIZE)
			return false;
		for (at = x.data; at < x.end; at += UMIG_PAGE_SIZE)
			found[at / UMIG_PAGE_SIZE] = true;
		offset = x.end;
	}
	return !memcmp(found, data, nr * sizeof(*data));
}

int main(void)
{
	int fd = memfd_create("ram", MFD_CLOEXEC), pair[2];
	bool data[NR] = { false };
	uint64_t i;

	ok(fd >= 0 && !ftruncate(fd, NR * UMIG_PAGE_SIZE), "setup");
	ok(walk_agrees(fd, data, NR), "nothing_but_a_hole");
	for (i = 0; i < NR; i++) {
		data[i] = i % 7 < 3 || i == NR - 1;
		if (data[i] && pwrite(fd, "x", 1, (off_t)(i * UMIG_PAGE_SIZE + 100)) != 1)
			return 1;
	}
	ok(walk_agrees(fd, data, NR), "data_among_holes");
	ok(walk_agrees(fd, data, NR - 1), "size_before_the_end_of_the_file");
	if (ftruncate(fd, (NR / 2 - 1) * UMIG_PAGE_SIZE + 1))
		return 1;
	memset(data + NR / 2, 0, NR / 2 * sizeof(*data));
	ok(walk_agrees(fd, data, NR), "beyond_the_end_is_a_hole");
	for (i = 0; i < NR; i++)
		data[i] = true;
	ok(!pipe(pair) && walk_agrees(pair[0], data, NR), "all_is_data_where_nobody_can_tell");
	return tap_end();
}
