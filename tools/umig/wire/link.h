/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The control connection: frames over a stream socket, encrypted if the command line asks for it.
 */
#ifndef UMIG_LINK_H
#define UMIG_LINK_H

#include <pthread.h>
#include <stdint.h>

#include "wire/control.h"

/**
 * struct control_link
 * @fd: -1 when there is no connection
 * @tls: NULL: not encrypted
 * @lock: held while a frame is written, so that frames of several threads do not mix
 * @buf: received and not yet handed out; only one thread reads
 * @consumed: bytes at the start of @buf that belong to frames already handed out
 */
struct control_link {
	int fd;
	struct gnutls_session_int *tls;
	pthread_mutex_t lock;
	uint8_t *buf;
	size_t used;
	size_t consumed;
};

int link_init(struct control_link *l);
int link_open(struct control_link *l, int fd);
void link_close(struct control_link *l);
void link_destroy(struct control_link *l);
int link_send(struct control_link *l, const struct control_message *msg);
int link_send_type(struct control_link *l, enum control_type type);
int link_send_error(struct control_link *l, enum control_error error, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
int link_send_state(struct control_link *l, const void *data, uint32_t length);
int link_send_ranges(struct control_link *l, enum control_kind kind, const uint8_t *ranges,
		     uint32_t nr);
int link_receive(struct control_link *l);
int link_next(struct control_link *l, struct control_frame *frame);

#endif
