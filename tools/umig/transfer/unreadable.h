/* SPDX-License-Identifier: GPL-2.0 */
/* Pages that the source answers with an error. */
#ifndef UMIG_UNREADABLE_H
#define UMIG_UNREADABLE_H

#include "transfer/transfer.h"

void unreadable_add(struct transfer *t, struct region *r, uint64_t page, uint64_t nr, int error);
uint64_t unreadable_nr_pages(struct transfer *t);

#endif
