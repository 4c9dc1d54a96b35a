/* SPDX-License-Identifier: GPL-2.0 */
/* QMP, the monitor protocol of QEMU. */
#ifndef UMIG_QMP_H
#define UMIG_QMP_H

#include <jansson.h>
#include <stdbool.h>
#include <sys/types.h>

/**
 * struct qmp - one QMP connection, used by one thread
 * @pid, @uid: of QEMU, from the credentials of the socket
 * @events: array of event objects that nobody has taken yet
 * @error: the last error, in words
 */
struct qmp {
	int fd;
	pid_t pid;
	uid_t uid;
	unsigned int timeout_ms;
	char *buf;
	size_t used;
	size_t room;
	json_int_t next_id;
	json_t *events;
	char error[512];
};

int qmp_open(struct qmp *q, const char *path, unsigned int timeout_ms);
void qmp_close(struct qmp *q);
int qmp_command(struct qmp *q, const char *name, json_t *args, json_t **ret);
int qmp_send_fd(struct qmp *q, const char *fd_name, int fd);
int qmp_pump(struct qmp *q);
json_t *qmp_next_event(struct qmp *q);

#endif
