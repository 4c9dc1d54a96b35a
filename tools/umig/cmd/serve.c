// SPDX-License-Identifier: GPL-2.0
/* umig serve: guest RAM in a file, or in the memory of a process, as an NBD export. */
#define _GNU_SOURCE
#include <poll.h>
#include <stdio.h>
#include <unistd.h>

#include "cmd/cmd.h"
#include "lib/lib.h"
#include "lib/log.h"
#include "lib/options.h"
#include "serve/serve.h"
#include "wire/address.h"
#include "wire/tls.h"

static int serve_until_signal(struct page_server *s, int signal_fd)
{
	for (;;) {
		struct pollfd pfd = { .fd = signal_fd, .events = POLLIN };

		if (poll(&pfd, 1, 500) > 0)
			return UMIG_OK;
		if (page_server_check(s))
			return UMIG_FAILED;
	}
}

/* No descriptor was given. */
#define NO_FD	UINT64_MAX

struct serve_options {
	const char *file;
	const char *listen;
	const char *host;
	const char *region;
	uint64_t fd;
	uint64_t pid;
	char link[64];
	struct process_memory memory;
};

static int serve_parse(struct serve_options *o, int argc, char **argv)
{
	const struct option_entry options[] = {
		OPTION_OF_TEXT("file", &o->file),
		OPTION_OF_NUMBER("pid", &o->pid, 1, INT32_MAX),
		OPTION_OF_TAKE("range", &o->memory, process_take_range),
		OPTION_OF_TEXT("region", &o->region),
		OPTION_OF_NUMBER("fd", &o->fd, 0, INT32_MAX),
		OPTION_OF_TAKE("listen", &o->listen, address_take),
		OPTION_OF_TEXT("host", &o->host),
		TLS_OPTIONS,
		{ 0 }
	};
	bool has_fd;
	int ret;

	o->fd = NO_FD;
	ret = options_parse("serve", options, argc, argv, 0);
	if (ret)
		return ret;
	has_fd = o->fd != NO_FD;
	if (!o->file == !o->pid || !o->listen)
		return options_bad("serve",
				   "--listen ADDRESS and one of --file PATH and --pid PID are needed");
	if (!!o->memory.end + !!o->region + has_fd != !!o->pid)
		return options_bad("serve", "--pid needs one of --range, --region and --fd");
	if (has_fd) {
		snprintf(o->link, sizeof(o->link), "/proc/%d/fd/%d", (int)o->pid, (int)o->fd);
		o->file = o->link;
	}
	if (tls_problem())
		return options_bad("serve", "%s", tls_problem());
	return 0;
}

/* Return: 0 or an exit code, having said why. */
static int serve_start(struct page_server *s, struct serve_options *o)
{
	if (o->file)
		return page_server_start(s, o->file, o->listen, o->host) ? UMIG_FAILED : 0;
	if ((o->region && process_find_mapping((pid_t)o->pid, o->region, &o->memory)) ||
	    process_open((pid_t)o->pid, &o->memory))
		return UMIG_REFUSED;
	return page_server_start_process(s, &o->memory, o->listen, o->host) ? UMIG_FAILED : 0;
}

static int serve_run(int argc, char **argv)
{
	struct serve_options o = { .memory.fd = -1 };
	struct page_server server;
	int ret, signal_fd;

	ret = serve_parse(&o, argc, argv);
	if (ret)
		return ret;
	signal_fd = signal_fd_open();
	if (signal_fd < 0)
		return UMIG_FAILED;
	ret = serve_start(&server, &o);
	if (!ret) {
		log_stdout(server.uri);
		ret = serve_until_signal(&server, signal_fd);
		page_server_stop(&server);
	}
	if (o.memory.fd >= 0)
		close(o.memory.fd);
	return ret;
}

const struct subcommand serve_subcommand = {
	.name = "serve",
	.purpose = "serve a VM's RAM over NBD",
	.help =
	"usage: umig serve (--file PATH | --pid PID ...) --listen unix:PATH|tcp:HOST:PORT [--host HOST]\n\n"
	"Serves the memory read-only (nbdkit with umig's plugin): holes and pages of zeros are\n"
	"announced as such. Prints the NBD URI once the server answers, and runs until SIGTERM. The\n"
	"contents must not change meanwhile: stop the VM first. If a process ends while its memory is\n"
	"served, reads are answered with an error.\n\n"
	"  --file PATH      the RAM file\n"
	"  --pid PID --fd N the file that the process has open as fd N: a memfd\n"
	"  --pid PID --range START-END\n"
	"                   its memory between these addresses (hexadecimal, see /proc/PID/maps),\n"
	"                   private memory, too; offset 0 of the export is START\n"
	"  --pid PID --region NAME\n"
	"                   the mapping that /proc/PID/maps calls NAME\n"
	"  --listen ADDRESS where; "
	"port 0 takes any that is free, an empty HOST means all addresses\n"
	"  --tls-psk FILE | --tls-certificates DIR\n"
	"                   encrypt, and serve only clients with the key (see umig(1))\n"
	"  --host HOST      name of this host for the URI, if --listen names none\n",
	.run = serve_run,
};
