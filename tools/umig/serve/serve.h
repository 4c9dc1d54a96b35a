/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Guest RAM as an NBD export.
 *
 *   page_server  nbdkit with umig's plugin, started again if it dies (declared here)
 *   plugin       what nbdkit loads: RAM of a process or in a file
 *   process      finds a mapping of another process and opens its memory
 */
#ifndef UMIG_SERVE_H
#define UMIG_SERVE_H

#include <sys/types.h>

#include "serve/process.h"

/**
 * struct page_server
 * @file: what is served, or its name in messages if it is memory of a process
 * @memory: memory of a process to serve; its fd is -1 if @file is served
 * @listen_fd: stays open in umig, so that nbdkit can be started again at the same address
 * @private_dir: directory of the socket of page_server_start_private(), or ""
 * @uri: where clients reach it
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
