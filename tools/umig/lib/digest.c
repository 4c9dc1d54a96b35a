// SPDX-License-Identifier: GPL-2.0
/* The digest of a RAM image, independent of the order in which its pages come. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "lib/digest.h"
#include "lib/sparse.h"
#include "lib/lib.h"

#define DIGEST_BLOCK	(1ULL << 20)

static bool is_zero(const void *data, uint64_t length)
{
	const uint64_t *p = data;

	/* Compares the data with itself shifted by a word: all words are like the first. */
	return !p[0] && !memcmp(p, p + 1, length - sizeof(*p));
}

/* Of this host's page size */
bool digest_page_is_zero(const void *page)
{
	return is_zero(page, UMIG_PAGE_SIZE);
}

/**
 * digest_add - take data into a digest
 * @length: a multiple of DIGEST_UNIT, like @offset, which is the data's place in the image
 *
 * XXH64 and not XXH3, which takes half as long again without wide vectors, and ten times as long
 * where they are emulated.
 */
void digest_add(struct digest *out, const uint8_t *data, uint64_t length, uint64_t offset)
{
	uint64_t i;

	for (i = 0; i < length; i += DIGEST_UNIT) {
		if (is_zero(data + i, DIGEST_UNIT)) {
			out->nr_zero++;
			continue;
		}
		out->nr_data++;
		out->sum += XXH64(data + i, DIGEST_UNIT, (offset + i) / DIGEST_UNIT);
	}
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

/*
 * The pages of a file that no longer changes: through the mapping @map if the kernel can populate
 * it (since Linux 5.14), otherwise copied to @buf. A copy takes longer than looking at the pages.
 */
static const uint8_t *digest_look(int fd, uint8_t *map, uint64_t length, uint64_t offset,
				  uint8_t *buf, int *error)
{
	*error = 0;
	if (map != MAP_FAILED && !madvise(map + offset, length, MADV_POPULATE_READ))
		return map + offset;
	*error = digest_read(fd, buf, length, offset);
	return buf;
}

/**
 * digest_file - digest of the first @size bytes of a RAM file that no longer changes
 * @stop: set to true by another thread to make this one give up
 *
 * Looks only at what SEEK_DATA finds: reading a hole through a mapping would allocate it.
 *
 * Return: 0, -ECANCELED, -ENODATA if the file is shorter, or another -errno.
 */
int digest_file(int fd, uint64_t size, const _Atomic bool *stop, struct digest *out)
{
	uint8_t *map = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0), *buf;
	uint64_t offset = 0, length;
	const uint8_t *data;
	struct stat st;
	int ret = 0;

	memset(out, 0, sizeof(*out));
	buf = aligned_alloc(UMIG_PAGE_SIZE, DIGEST_BLOCK);
	if (!buf)
		ret = -ENOMEM;
	while (!ret && offset < size) {
		struct sparse_extent x = sparse_next(fd, offset, size);

		if (atomic_load(stop)) {
			ret = -ECANCELED;
			break;
		}
		out->nr_zero += (x.data - offset) / DIGEST_UNIT;
		offset = x.data;
		length = min_u64(DIGEST_BLOCK, x.end - offset);
		data = digest_look(fd, map, length, offset, buf, &ret);
		if (!ret)
			digest_add(out, data, length, offset);
		offset += length;
	}
	free(buf);
	if (map != MAP_FAILED)
		munmap(map, size);
	/* Beyond the end of a file everything looks like a hole. */
	if (!ret && fstat(fd, &st))
		ret = -errno;
	if (!ret && (uint64_t)st.st_size < size)
		ret = -ENODATA;
	return ret;
}
