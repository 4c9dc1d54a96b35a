// SPDX-License-Identifier: GPL-2.0
/* umig list: the regions of this host. */
#define _GNU_SOURCE
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cmd/cmd.h"
#include "device/device.h"
#include "device/regions.h"
#include "lib/lib.h"
#include "lib/log.h"
#include "lib/options.h"

static const char *region_kind(const struct postcopy_region_info *info)
{
	return info->out_region_flags & POSTCOPY_REGION_PRIVATE ? "private" : "shared";
}

static json_t *list_json(uint64_t id, const struct postcopy_region_info *info)
{
	return json_pack("{s:I, s:i, s:s, s:I, s:I, s:s, s:s, s:i, s:I, s:I, s:I, s:I}",
			 "id", (json_int_t)id,
			 "pid", (int)info->out_pid,
			 "comm", info->out_comm,
			 "offset", (json_int_t)info->out_offset,
			 "size", (json_int_t)info->out_length,
			 "kind", region_kind(info),
			 "state", regions_state_name(info->out_state),
			 "helper", (int)info->out_helper_pid,
			 "pages", (json_int_t)info->out_nr_pages,
			 "present", (json_int_t)info->out_nr_present,
			 "missing", (json_int_t)(info->out_nr_pages - info->out_nr_present),
			 "requests", (json_int_t)info->out_nr_requests);
}

/* 512M, 4G, 2049M, 1.5T: exact if four digits are enough. */
static void list_size(char *buf, size_t size, uint64_t bytes)
{
	static const char units[] = "KMGTP";
	unsigned int shift = 10, i = 0;

	if (!bytes) {
		snprintf(buf, size, "0");
		return;
	}
	while (i < 4 && bytes >> (shift + 10) && (bytes >> shift > 9999 ||
						  !(bytes & ((1ULL << (shift + 10)) - 1)))) {
		shift += 10;
		i++;
	}
	if (bytes & ((1ULL << shift) - 1))
		snprintf(buf, size, "%.1f%c", (double)bytes / (double)(1ULL << shift), units[i]);
	else
		snprintf(buf, size, "%" PRIu64 "%c", bytes >> shift, units[i]);
}

/* A row has at most 80 columns, like the heading in list_print(). */
static void list_row(uint64_t id, const struct postcopy_region_info *info)
{
	char helper[16] = "-", offset[24], size[24], range[52];
	/* Rounded down: a region that misses one page is not at 100 %. */
	uint64_t tenths = info->out_nr_pages ? info->out_nr_present * 1000 / info->out_nr_pages :
		1000;

	if (info->out_helper_pid)
		snprintf(helper, sizeof(helper), "%u", info->out_helper_pid);
	list_size(offset, sizeof(offset), info->out_offset);
	list_size(size, sizeof(size), info->out_length);
	snprintf(range, sizeof(range), "%s+%s", offset, size);
	printf("%4" PRIu64 " %7u %-15s %9s %-7s %-10s %7s %4" PRIu64 ".%" PRIu64 "%% %5" PRIu64
	       "\n",
	       id, info->out_pid, info->out_comm, range, region_kind(info),
	       regions_state_name(info->out_state), helper, tenths / 10, tenths % 10,
	       (uint64_t)info->out_nr_requests);
}

static int list_print(int context, bool json)
{
	json_t *array = json_array();
	uint64_t *ids;
	size_t nr, i;
	int ret = dev_region_list(context, &ids, &nr);

	if (ret) {
		log_error("cannot list regions: %s", strerror(-ret));
		json_decref(array);
		return UMIG_FAILED;
	}
	if (!json)
		printf("%4s %7s %-15s %9s %-7s %-10s %7s %7s %5s\n", "ID", "PID", "COMM",
		       "RANGE", "KIND", "STATE", "HELPER", "PRESENT", "REQS");
	for (i = 0; i < nr; i++) {
		struct postcopy_region_info info;

		if (dev_region_info(context, ids[i], &info))
			continue;
		if (json)
			json_array_append_new(array, list_json(ids[i], &info));
		else
			list_row(ids[i], &info);
	}
	free(ids);
	if (json)
		log_json(json_incref(array));
	json_decref(array);
	return UMIG_OK;
}

static int list_run(int argc, char **argv)
{
	bool json = false;
	const struct option_entry options[] = {
		OPTION_OF_FLAG("json", &json),
		{ 0 }
	};
	int context, ret = options_parse("list", options, argc, argv, 0);

	if (ret)
		return ret;
	context = regions_open_context();
	if (context < 0)
		return UMIG_FAILED;
	ret = list_print(context, json);
	close(context);
	return ret;
}

const struct subcommand list_subcommand = {
	.name = "list",
	.purpose = "show the regions of this host",
	.help =
	"usage: umig list [--json]\n\n"
	"Shows the regions you may attach to: id, owner, place in the RAM image (offset+size),\n"
	"kind, state, helper, how much is present and how many requests wait.\n\n"
	"  --json   one JSON array instead of a table, with exact numbers\n",
	.run = list_run,
};
