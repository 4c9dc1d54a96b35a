// SPDX-License-Identifier: GPL-2.0
/* meta.json of a snapshot. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/log.h"
#include "lib/umig.h"
#include "migrate/snapshot.h"

#define SNAPSHOT_VERSION	1

/* On the disk before it has its name. Return: 0 or -errno. */
int snapshot_save(const char *dir, const struct snapshot *s)
{
	char temporary[PATH_MAX], path[PATH_MAX], state[17], sum[17];
	json_t *o;
	int fd, ret;

	snprintf(temporary, sizeof(temporary), "%s/." SNAPSHOT_META, dir);
	snprintf(path, sizeof(path), "%s/" SNAPSHOT_META, dir);
	snprintf(state, sizeof(state), "%016" PRIx64, s->state_sum);
	snprintf(sum, sizeof(sum), "%016" PRIx64, s->digest.sum);
	fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	o = json_pack("{s:i, s:s, s:I, s:I, s:b, s:I, s:s, s:I, s:I, s:s}",
		      "umig_snapshot", SNAPSHOT_VERSION, "ram_id", s->ram_id,
		      "ram_size", (json_int_t)s->ram_size, "page_size", (json_int_t)s->page_size,
		      "running", s->running, "state_bytes", (json_int_t)s->state_bytes,
		      "state_digest", state, "zero_pages", (json_int_t)s->digest.nr_zero,
		      "data_pages", (json_int_t)s->digest.nr_data, "digest", sum);
	ret = o && !json_dumpfd(o, fd, JSON_INDENT(2)) && write(fd, "\n", 1) == 1 && !fsync(fd) ?
		0 : -(errno ? errno : EIO);
	json_decref(o);
	if (close(fd) && !ret)
		ret = -errno;
	if (!ret && rename(temporary, path))
		ret = -errno;
	if (ret)
		unlink(temporary);
	return ret;
}

/* Return: 0 or -EINVAL, having said why. */
int snapshot_load(const char *dir, struct snapshot *s)
{
	const char *ram_id, *state, *sum;
	json_int_t ram_size, page_size, state_bytes, zero, data;
	char path[PATH_MAX];
	json_error_t error;
	int version, running;
	json_t *o;

	memset(s, 0, sizeof(*s));
	snprintf(path, sizeof(path), "%s/" SNAPSHOT_META, dir);
	o = json_load_file(path, JSON_REJECT_DUPLICATES, &error);
	if (!o) {
		log_error("%s is no snapshot: %s: %s", dir, path, error.text);
		return -EINVAL;
	}
	if (json_unpack(o, "{s:i, s:s, s:I, s:I, s:b, s:I, s:s, s:I, s:I, s:s}",
			"umig_snapshot", &version, "ram_id", &ram_id, "ram_size", &ram_size,
			"page_size", &page_size, "running", &running, "state_bytes", &state_bytes,
			"state_digest", &state, "zero_pages", &zero, "data_pages", &data,
			"digest", &sum) ||
	    version != SNAPSHOT_VERSION || strlen(ram_id) >= sizeof(s->ram_id) || ram_size <= 0 ||
	    page_size != UMIG_PAGE_SIZE || ram_size % page_size || state_bytes < 0 || zero < 0 ||
	    data < 0 || zero + data != ram_size / page_size) {
		log_error("%s is not what umig writes into a snapshot; nothing was restored", path);
		json_decref(o);
		return -EINVAL;
	}
	strcpy(s->ram_id, ram_id);
	s->ram_size = (uint64_t)ram_size;
	s->page_size = (uint64_t)page_size;
	s->running = running;
	s->state_bytes = (uint64_t)state_bytes;
	s->state_sum = strtoull(state, NULL, 16);
	s->digest.nr_zero = (uint64_t)zero;
	s->digest.nr_data = (uint64_t)data;
	s->digest.sum = strtoull(sum, NULL, 16);
	json_decref(o);
	return 0;
}
