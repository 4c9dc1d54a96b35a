// SPDX-License-Identifier: GPL-2.0
/* The regions of a process. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "device/device.h"
#include "device/regions.h"
#include "lib/lib.h"
#include "lib/log.h"

/* Return: a context fd, or -errno having said why. */
int regions_open_context(void)
{
	int fd = dev_open();

	if (fd == -ENOENT || fd == -ENXIO || fd == -ENODEV)
		log_error("cannot open %s: %s; load the module first: modprobe postcopy",
			  dev_path(), strerror(-fd));
	else if (fd == -EACCES || fd == -EPERM)
		log_error("cannot open %s: %s; run umig as root or as a user who may open it",
			  dev_path(), strerror(-fd));
	else if (fd < 0)
		log_error("cannot open %s: %s", dev_path(), strerror(-fd));
	return fd;
}

/**
 * regions_of - ids of the regions of process @pid that are still to be filled
 * @ids: the caller frees it, also if *@nr_ids is 0
 *
 * Return: 0 or -errno.
 */
int regions_of(int context, pid_t pid, uint64_t **ids, size_t *nr_ids)
{
	size_t i, nr, kept = 0;
	int ret = dev_region_list(context, ids, &nr);

	if (ret)
		return ret;
	for (i = 0; i < nr; i++) {
		struct postcopy_region_info info;

		/* The region may have gone since the list was made. */
		if (dev_region_info(context, (*ids)[i], &info))
			continue;
		if (info.out_pid == (uint32_t)pid && info.out_state != POSTCOPY_REGION_DEAD &&
		    info.out_state != POSTCOPY_REGION_CONVERTED)
			(*ids)[kept++] = (*ids)[i];
	}
	*nr_ids = kept;
	return 0;
}

const char *regions_state_name(uint32_t state)
{
	static const char *const names[] = {
		[POSTCOPY_REGION_UNATTACHED]	= "unattached",
		[POSTCOPY_REGION_ATTACHED]	= "attached",
		[POSTCOPY_REGION_DETACHED]	= "detached",
		[POSTCOPY_REGION_CONVERTED]	= "converted",
		[POSTCOPY_REGION_DEAD]		= "dead",
	};

	return state < ARRAY_SIZE(names) ? names[state] : "unknown";
}
