// SPDX-License-Identifier: GPL-2.0
/* umig snapshot: write a running guest into a directory. */
#define _GNU_SOURCE
#include <getopt.h>
#include <stdlib.h>

#include "cmd/cmd.h"
#include "lib/options.h"
#include "migrate/snapshot.h"

static int snapshot_parse(struct snapshotter *sn, int argc, char **argv)
{
	const struct option_entry options[] = {
		OPTION_OF_TEXT("qmp", &sn->out.qmp_path),
		OPTION_OF_FLAG("pause", &sn->pause),
		OPTION_OF_FLAG("json", &sn->json),
		{ 0 }
	};
	const char *problem;
	int ret = options_parse("snapshot", options, argc, argv, 1);

	if (ret)
		return ret;
	if (optind + 1 != argc || !sn->out.qmp_path)
		return options_bad("snapshot", "--qmp SOCKET and one DIR are needed");
	sn->dir = argv[optind];
	problem = snapshot_check_dir(sn->dir);
	return problem ? options_bad("snapshot", "%s", problem) : 0;
}

static int snapshot_main(int argc, char **argv)
{
	struct snapshotter *sn = calloc(1, sizeof(*sn));
	int code;

	if (!sn)
		return UMIG_FAILED;
	code = snapshot_parse(sn, argc, argv);
	if (!code)
		code = snapshot_run(sn);
	free(sn);
	return code;
}

const struct subcommand snapshot_subcommand = {
	.name = "snapshot",
	.purpose = "write a running guest into a directory; it goes on",
	.help =
	"usage: umig snapshot --qmp SOCKET [--pause] [--json] DIR\n\n"
	"Writes the guest's RAM and device state into DIR, which must not exist. RAM is copied while\n"
	"the guest runs. It stands still only while the device state is saved and the pages that it\n"
	"has written to are copied again. 'umig restore DIR' starts it again, as often as wanted. Disks\n"
	"are not part of it. QEMU's RAM must be a memory-backend-file with share=on.\n\n"
	"  --qmp SOCKET   QMP socket of QEMU\n"
	"  --pause        the guest stands still for the whole copy; this also works where writes\n"
	"                 cannot be tracked\n"
	"  --json         a JSON summary on stdout\n",
	.run = snapshot_main,
};
