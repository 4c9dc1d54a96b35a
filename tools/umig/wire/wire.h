/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What crosses the network.
 *
 *   address      unix:PATH and tcp:HOST:PORT: listen, connect, the URI of a page server
 *   socket       how long a peer may be silent (declared here)
 *   control      the control protocol between sender and receiver: bytes in, messages out
 *   link         the control connection: frames of that protocol over a socket
 *   tls          which keys the command line names
 *   tls_session  TLS of the control connection; page connections have it from libnbd and nbdkit
 */
#ifndef UMIG_WIRE_H
#define UMIG_WIRE_H

#include <stdbool.h>

bool socket_keep_alive(int fd);
void socket_limit(int fd, unsigned int seconds);

#endif
