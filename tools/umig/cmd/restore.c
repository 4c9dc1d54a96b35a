// SPDX-License-Identifier: GPL-2.0
/* umig restore: start a guest out of a snapshot. */
#define _GNU_SOURCE
#include <getopt.h>
#include <stdlib.h>

#include "cmd/cmd.h"
#include "lib/options.h"
#include "migrate/restore.h"
#include "wire/tls.h"

static int restore_parse(struct restore *re, int argc, char **argv)
{
	const struct option_entry options[] = {
		INCOMING_OPTIONS(&re->in),
		OPTION_OF_TEXT("from", &re->uri),
		OPTION_OF_NUMBER("record", &re->record_s, 1, 3600),
		OPTION_OF_FLAG("replay", &re->replay),
		TLS_OPTIONS,
		{ 0 }
	};
	const char *problem;
	int ret;

	re->in.timeout_s = INCOMING_TIMEOUT_S;
	re->in.connections = INCOMING_CONNECTIONS;
	ret = options_parse("restore", options, argc, argv, 1);
	if (ret)
		return ret;
	if (tls_problem())
		return options_bad("restore", "%s", tls_problem());
	if (tls_is_on() && !re->uri)
		return options_bad("restore", "--tls-psk and --tls-certificates need --from");
	if (re->record_s && re->replay)
		return options_bad("restore", "--record and --replay exclude each other");
	if (optind + 1 != argc || !re->in.qmp_path)
		return options_bad("restore", "--qmp SOCKET and one DIR are needed");
	re->dir = argv[optind];
	problem = snapshot_check_dir(re->dir);
	return problem ? options_bad("restore", "%s", problem) : 0;
}

static int restore_main(int argc, char **argv)
{
	struct restore *re = calloc(1, sizeof(*re));
	int code;

	if (!re)
		return UMIG_FAILED;
	code = restore_parse(re, argc, argv);
	if (!code)
		code = restore_run(re);
	free(re);
	return code;
}

const struct subcommand restore_subcommand = {
	.name = "restore",
	.purpose = "start a guest out of a snapshot, its pages follow",
	.help =
	"usage: umig restore --qmp SOCKET [OPTIONS] DIR\n\n"
	"Starts the guest that 'umig snapshot' has written to DIR in a QEMU that waits for it\n"
	"(-incoming defer, RAM mapped from /dev/postcopy; see 'umig help recv'). The guest runs at\n"
	"once; pages that it touches come first, the rest in the background, then the memory is\n"
	"converted. Without --record DIR is only read: many guests can start from it at once.\n\n"
	"  --qmp SOCKET      QMP socket of the QEMU that waits\n"
	"  --from NBD-URI    where ram.raw is served, instead of reading DIR/ram.raw\n"
	"  --tls-psk FILE, --tls-user NAME, --tls-certificates DIR\n"
	"                    with --from: encrypt, and check who the server is (see umig(1))\n"
	"  --pid PID         QEMU's process id, if the QMP socket does not tell it\n"
	"  --connections N   background connections, 1 to 16 (2)\n"
	"  --rate BYTES      background reads per second at most (suffix K, M, G)\n"
	"  --record SECONDS  for so long read only pages that the guest touches, and write their\n"
	"                    order to DIR/working_set.json; then read the rest\n"
	"  --replay          read the pages of DIR/working_set.json first, in that order\n"
	"  --json            JSON lines on stdout: progress, then a summary\n",
	.run = restore_main,
};
