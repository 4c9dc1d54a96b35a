/* SPDX-License-Identifier: GPL-2.0 */
/* Stream addresses: unix:PATH and tcp:HOST:PORT. */
#ifndef UMIG_ADDRESS_H
#define UMIG_ADDRESS_H

#include <stddef.h>

const char *address_take(void *value, const char *text);
int address_listen(const char *address);
int address_connect(const char *address, unsigned int timeout_ms);
const char *address_unix_path(const char *address);
int address_host(const char *address, char *host, size_t size);
int address_nbd_uri(int listen_fd, const char *address, const char *host, char *uri, size_t size);
int address_local_host(int fd, char *host, size_t size);

#endif
