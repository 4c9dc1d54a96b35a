/* SPDX-License-Identifier: GPL-2.0 */
/* The digest of a RAM image, independent of the order in which its pages come. */
#ifndef UMIG_DIGEST_H
#define UMIG_DIGEST_H

#include <stdbool.h>
#include <stdint.h>

/**
 * struct digest - what END carries
 * @nr_zero: pages that are all zeros; they add nothing to @sum
 * @nr_data: all others
 * @sum: sum modulo 2^64 of XXH64(page, 4096, index of the page in the image)
 */
struct digest {
	uint64_t nr_zero;
	uint64_t nr_data;
	uint64_t sum;
};

bool digest_page_is_zero(const void *page);
uint64_t digest_page(const void *page, uint64_t index);
int digest_file(int fd, uint64_t size, const volatile bool *stop, struct digest *out);

#endif
