/* SPDX-License-Identifier: GPL-2.0 */
/* The digest of a RAM image, independent of the order in which its pages come. */
#ifndef UMIG_DIGEST_H
#define UMIG_DIGEST_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/**
 * struct digest - counts and sum of a RAM image
 * @nr_zero: pages that are all zeros; they add nothing to @sum
 * @nr_data: all others
 * @sum: sum modulo 2^64 of XXH64(page, 4096, index of the page in the image)
 */
struct digest {
	uint64_t nr_zero;
	uint64_t nr_data;
	uint64_t sum;
};

/* Do the two say the same? */
static inline bool digest_equals(const struct digest *a, const struct digest *b)
{
	return a->nr_zero == b->nr_zero && a->nr_data == b->nr_data && a->sum == b->sum;
}

bool digest_page_is_zero(const void *page);
uint64_t digest_page(const void *page, uint64_t index);
int digest_file(int fd, uint64_t size, const _Atomic bool *stop, struct digest *out);

#endif
