/* SPDX-License-Identifier: GPL-2.0 */
/* A JSON file that is written as a whole or not at all. */
#ifndef UMIG_JSON_FILE_H
#define UMIG_JSON_FILE_H

#include <jansson.h>

int json_file_save(json_t *object, const char *path);

#endif
