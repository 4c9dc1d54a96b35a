// SPDX-License-Identifier: GPL-2.0
/* Finding the regions of a process. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "device/dev.h"
#include "device/find.h"
#include "lib/log.h"

/* Return: a context fd, or -errno having said what is wrong. */
int find_open_context(void)
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
 * find_regions - ids of the regions that process @pid owns
 * @ids: to be freed by the caller, also if *@nr_ids is 0
 *
 * Return: 0 or -errno.
 */
int find_regions(int context, pid_t pid, uint64_t **ids, size_t *nr_ids)
{
	size_t i, nr, kept = 0;
	int ret = dev_region_list(context, ids, &nr);

	if (ret)
		return ret;
	for (i = 0; i < nr; i++) {
		struct postcopy_region_info info;

		/* It may have gone since the list was made. */
		if (dev_region_info(context, (*ids)[i], &info))
			continue;
		if (info.out_pid == (uint32_t)pid && info.out_state != POSTCOPY_REGION_DEAD &&
		    info.out_state != POSTCOPY_REGION_CONVERTED)
			(*ids)[kept++] = (*ids)[i];
	}
	*nr_ids = kept;
	return 0;
}
