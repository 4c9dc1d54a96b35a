// SPDX-License-Identifier: GPL-2.0
/* What stands in a snapshot's directory: meta.json, written and read. */
#define _GNU_SOURCE
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/json_file.h"
#include "lib/lib.h"
#include "lib/log.h"
#include "migrate/snapshot_file.h"

#define SNAPSHOT_VERSION	1

/* Return: 0 or -errno. */
int snapshot_save(const char *dir, const struct snapshot *s)
{
	char path[PATH_MAX], state[17], sum[17];

	snprintf(path, sizeof(path), "%s/" SNAPSHOT_META, dir);
	snprintf(state, sizeof(state), "%016" PRIx64, s->state_sum);
	snprintf(sum, sizeof(sum), "%016" PRIx64, s->digest.sum);
	return json_file_save(json_pack("{s:i, s:s, s:I, s:I, s:b, s:I, s:s, s:I, s:I, s:s}",
					"umig_snapshot", SNAPSHOT_VERSION,
					"ram_id", s->guest.ram_id,
					"ram_size", (json_int_t)s->guest.ram_size,
					"page_size", (json_int_t)s->guest.page_size,
					"running", s->guest.running,
					"state_bytes", (json_int_t)s->state_bytes,
					"state_digest", state,
					"zero_pages", (json_int_t)s->digest.nr_zero,
					"data_pages", (json_int_t)s->digest.nr_data,
					"digest", sum), path);
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
	    version != SNAPSHOT_VERSION || strlen(ram_id) >= sizeof(s->guest.ram_id) ||
	    ram_size <= 0 || page_size < 1 || ram_size % page_size || state_bytes < 0 ||
	    zero < 0 || data < 0 || ram_size % (json_int_t)DIGEST_UNIT ||
	    zero > INT64_MAX - data || zero + data != ram_size / (json_int_t)DIGEST_UNIT) {
		log_error("%s is not what umig writes into a snapshot; nothing was restored", path);
		json_decref(o);
		return -EINVAL;
	}
	strcpy(s->guest.ram_id, ram_id);
	s->guest.ram_size = (uint64_t)ram_size;
	s->guest.page_size = (uint64_t)page_size;
	s->guest.running = running;
	s->state_bytes = (uint64_t)state_bytes;
	s->state_sum = strtoull(state, NULL, 16);
	s->digest.nr_zero = (uint64_t)zero;
	s->digest.nr_data = (uint64_t)data;
	s->digest.sum = strtoull(sum, NULL, 16);
	json_decref(o);
	return 0;
}

/* The names of files in a directory must fit behind its own. Return: NULL, or what is wrong. */
const char *snapshot_check_dir(const char *dir)
{
	return strlen(dir) > PATH_MAX - 32 ? "the name of DIR is too long" : NULL;
}
