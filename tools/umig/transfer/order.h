/* SPDX-License-Identifier: GPL-2.0 */
/* What background reads next. */
#ifndef UMIG_ORDER_H
#define UMIG_ORDER_H

#include "transfer/transfer.h"

enum order_kind { ORDER_NOTHING, ORDER_READ, ORDER_QUERY };

/**
 * struct order - the next thing for a background thread to do
 * @page, @nr: ORDER_READ: read these pages; ORDER_QUERY: ask which of them, the rest of a chunk,
 *	are zero
 */
struct order {
	enum order_kind kind;
	struct region *region;
	uint64_t page;
	uint64_t nr;
};

/**
 * struct order_limits - what the thread that asks can do
 * @max_pages: in one read
 * @has_status: its connection can ask which pages are zero
 * @is_asking: it has a query in flight already
 */
struct order_limits {
	uint64_t max_pages;
	bool has_status;
	bool is_asking;
};

struct order order_next(struct transfer *t, const struct order_limits *limits);
void order_follow(struct transfer *t, struct region *r, uint64_t page);

#endif
