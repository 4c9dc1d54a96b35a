// SPDX-License-Identifier: GPL-2.0
/* A JSON file that is written as a whole or not at all. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <unistd.h>

#include "lib/json_file.h"

/**
 * json_file_save - write @object to @path, for its owner alone
 * @object: the caller's reference is dropped; NULL fails with -ENOMEM
 *
 * The file is on the disk before it gets its name.
 *
 * Return: 0 or -errno.
 */
int json_file_save(json_t *object, const char *path)
{
	char temporary[PATH_MAX];
	int fd = -1, ret = object ? 0 : -ENOMEM;

	if (!ret && (size_t)snprintf(temporary, sizeof(temporary), "%s.new", path) >=
	    sizeof(temporary))
		ret = -ENAMETOOLONG;
	if (!ret) {
		fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
		ret = fd < 0 ? -errno : 0;
	}
	if (fd >= 0) {
		errno = 0;
		if (json_dumpfd(object, fd, JSON_INDENT(2)) || write(fd, "\n", 1) != 1 || fsync(fd))
			ret = errno ? -errno : -EIO;
		if (close(fd) && !ret)
			ret = -errno;
		if (!ret && rename(temporary, path))
			ret = -errno;
		if (ret)
			unlink(temporary);
	}
	json_decref(object);
	return ret;
}
