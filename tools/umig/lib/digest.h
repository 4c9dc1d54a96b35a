/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The digest of a RAM image, independent of the order in which its pages come, and of the page size
 * of the host: a snapshot may be restored on another one.
 */
#ifndef UMIG_DIGEST_H
#define UMIG_DIGEST_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* Bytes. Every page size is a multiple of it; the largest, 64 KiB, has 16 units. */
#define DIGEST_UNIT	4096ULL

/**
 * struct digest - counts and sum of a RAM image
 * @nr_zero: units (DIGEST_UNIT) that are all zeros; they add nothing to @sum
 * @nr_data: all others
 * @sum: sum modulo 2^64 of XXH64(unit, 4096, index of the unit in the image)
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
void digest_add(struct digest *out, const uint8_t *data, uint64_t length, uint64_t offset);
int digest_file(int fd, uint64_t size, const _Atomic bool *stop, struct digest *out);

#endif
