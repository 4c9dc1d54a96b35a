/* SPDX-License-Identifier: GPL-2.0 */
/* Messages for people (stderr), the progress bar below them, and JSON lines (stdout). */
#ifndef UMIG_LOG_H
#define UMIG_LOG_H

#include <jansson.h>
#include <stdbool.h>

void log_set_quiet(bool quiet);
void log_error(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void log_info(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void log_bar(const char *line);
void log_bar_end(void);
void log_stdout(const char *line);
void log_json(json_t *object);

#endif
