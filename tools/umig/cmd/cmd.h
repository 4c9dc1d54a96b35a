/* SPDX-License-Identifier: GPL-2.0 */
/* The subcommands: one file for each, with its options, its help and its exit code. */
#ifndef UMIG_CMD_H
#define UMIG_CMD_H

/**
 * struct subcommand - one word after "umig"
 * @name: the word
 * @purpose: one line for "umig help"
 * @help: all of "umig help NAME"
 * @run: gets argv with argv[0] = name, returns an enum umig_exit
 */
struct subcommand {
	const char *name;
	const char *purpose;
	const char *help;
	int (*run)(int argc, char **argv);
};

extern const struct subcommand list_subcommand;
extern const struct subcommand pull_subcommand;
extern const struct subcommand serve_subcommand;
extern const struct subcommand send_subcommand;
extern const struct subcommand recv_subcommand;
extern const struct subcommand snapshot_subcommand;
extern const struct subcommand restore_subcommand;
extern const struct subcommand report_subcommand;
extern const struct subcommand status_subcommand;
extern const struct subcommand set_subcommand;

#endif
