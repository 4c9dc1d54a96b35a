// SPDX-License-Identifier: GPL-2.0
/* The digest of a RAM image, independent of the order in which its pages come. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "digest.h"
#include "sparse.h"
#include "umig.h"

#define DIGEST_BLOCK	(1ULL << 20)

bool digest_page_is_zero(const void *page)
{
	const uint64_t *p = page;

	/* The overlapping compare says "all the same as the first word", at memcmp's speed. */
	return !p[0] && !memcmp(p, p + 1, UMIG_PAGE_SIZE - sizeof(*p));
}

/* Not XXH3: half as long again without wide vectors, ten times as long where they are emulated. */
uint64_t digest_page(const void *page, uint64_t index)
{
	return XXH64(page, UMIG_PAGE_SIZE, index);
}

static int digest_read(int fd, uint8_t *buf, uint64_t length, uint64_t offset)
{
	while (length) {
		ssize_t n = pread(fd, buf, length, (off_t)offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (!n)
			return -ENODATA;
		buf += n;
		offset += (uint64_t)n;
		length -= (uint64_t)n;
	}
	return 0;
}

/**
 * digest_file - digest of the first @size bytes of a RAM file that no longer changes
 * @stop: set to true by another thread to make this one give up
 *
 * Reads with pread(): reading holes through a mapping would allocate them in shmem.
 *
 * Return: 0, -ECANCELED, -ENODATA if the file is shorter, or another -errno.
 */
int digest_file(int fd, uint64_t size, const volatile bool *stop, struct digest *out)
{
	uint64_t offset = 0, i, length;
	struct stat st;
	uint8_t *buf;
	int ret = 0;

	memset(out, 0, sizeof(*out));
	buf = aligned_alloc(UMIG_PAGE_SIZE, DIGEST_BLOCK);
	if (!buf)
		return -ENOMEM;
	while (offset < size) {
		struct sparse_extent x = sparse_next(fd, offset, size);

		if (*stop) {
			ret = -ECANCELED;
			break;
		}
		out->nr_zero += (x.data - offset) / UMIG_PAGE_SIZE;
		offset = x.data;
		length = min_u64(DIGEST_BLOCK, x.end - offset);
		ret = digest_read(fd, buf, length, offset);
		if (ret)
			break;
		for (i = 0; i < length; i += UMIG_PAGE_SIZE) {
			if (digest_page_is_zero(buf + i)) {
				out->nr_zero++;
				continue;
			}
			out->nr_data++;
			out->sum += digest_page(buf + i, (offset + i) / UMIG_PAGE_SIZE);
		}
		offset += length;
	}
	free(buf);
	/* Beyond the end of a file everything looks like a hole. */
	if (!ret && fstat(fd, &st))
		ret = -errno;
	if (!ret && (uint64_t)st.st_size < size)
		ret = -ENODATA;
	return ret;
}
