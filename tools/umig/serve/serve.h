/* SPDX-License-Identifier: GPL-2.0 */
/* The page server: nbdkit with our plugin over guest RAM in a file or a process. */
#ifndef UMIG_SERVE_H
#define UMIG_SERVE_H

#include <sys/types.h>

#include "serve/process.h"

/**
 * struct page_server
 * @memory: of a process; its fd is -1 if @file is what is served
 * @listen_fd: stays open in umig, so an nbdkit that died can be started again at the same address
 * @private_dir: of page_server_start_private()'s socket, or ""
 * @uri: where it is reached
 */
struct page_server {
	int listen_fd;
	pid_t pid;
	struct process_memory memory;
	char file[4096];
	char unix_path[108];
	char private_dir[32];
	char uri[512];
};

int page_server_start(struct page_server *s, const char *file, const char *address,
		      const char *host);
int page_server_start_process(struct page_server *s, const struct process_memory *memory,
			      const char *address, const char *host);
int page_server_start_private(struct page_server *s, const char *file);
int page_server_check(struct page_server *s);
void page_server_stop(struct page_server *s);

#endif
