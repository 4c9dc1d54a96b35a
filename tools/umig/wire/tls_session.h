/* SPDX-License-Identifier: GPL-2.0 */
/* TLS of the control connection, by GnuTLS, with the keys or certificates of tls.h. */
#ifndef UMIG_TLS_SESSION_H
#define UMIG_TLS_SESSION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum tls_side { TLS_CLIENT, TLS_SERVER };

struct gnutls_session_int;

int tls_load(enum tls_side side, const char *host);
int tls_session_open(struct gnutls_session_int **session, int fd, unsigned int timeout_ms);
void tls_session_close(struct gnutls_session_int *session);
ssize_t tls_session_send(struct gnutls_session_int *session, const void *data, size_t length);
ssize_t tls_session_receive(struct gnutls_session_int *session, void *buf, size_t size);
bool tls_session_has_more(struct gnutls_session_int *session);

#endif
