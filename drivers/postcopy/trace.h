/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Tracepoints: what happens to pages, and which threads wait for them. Offsets are
 * bytes of the RAM image, as everywhere in the interface. A tracepoint that is off
 * costs nothing. Documentation/observing.rst has examples.
 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM postcopy

#if !defined(_POSTCOPY_TRACE_H) || defined(TRACE_HEADER_MULTI_READ)
#define _POSTCOPY_TRACE_H

#include <linux/tracepoint.h>

#include "postcopy.h"

/* A thread has found its page missing. */
TRACE_EVENT(postcopy_fault,
	TP_PROTO(struct postcopy_region *region, unsigned long index, unsigned int flags),
	TP_ARGS(region, index, flags),
	TP_STRUCT__entry(
		__field(u64, region)
		__field(u64, offset)
		__field(bool, write)
		__field(bool, user)
		__field(bool, nowait)
	),
	TP_fast_assign(
		__entry->region = region->id;
		__entry->offset = (u64)(region->first + index) << PAGE_SHIFT;
		__entry->write = flags & FAULT_FLAG_WRITE;
		__entry->user = flags & FAULT_FLAG_USER;
		__entry->nowait = flags & FAULT_FLAG_RETRY_NOWAIT;
	),
	TP_printk("region=%llu offset=0x%llx write=%d user=%d nowait=%d",
		  __entry->region, __entry->offset, __entry->write, __entry->user,
		  __entry->nowait)
);

/* The thread no longer waits: the page is present, a signal came, or a limit was reached. */
TRACE_EVENT(postcopy_wake,
	TP_PROTO(struct postcopy_region *region, unsigned long index, u64 wait_ns),
	TP_ARGS(region, index, wait_ns),
	TP_STRUCT__entry(
		__field(u64, region)
		__field(u64, offset)
		__field(u64, wait_ns)
	),
	TP_fast_assign(
		__entry->region = region->id;
		__entry->offset = (u64)(region->first + index) << PAGE_SHIFT;
		__entry->wait_ns = wait_ns;
	),
	TP_printk("region=%llu offset=0x%llx wait_ns=%llu",
		  __entry->region, __entry->offset, __entry->wait_ns)
);

/* nr_changed: how many of the pages were in another state before. */
DECLARE_EVENT_CLASS(postcopy_pages,
	TP_PROTO(struct postcopy_region *region, unsigned long first, unsigned long nr,
		 unsigned long nr_changed),
	TP_ARGS(region, first, nr, nr_changed),
	TP_STRUCT__entry(
		__field(u64, region)
		__field(u64, offset)
		__field(u64, length)
		__field(u64, nr_changed)
	),
	TP_fast_assign(
		__entry->region = region->id;
		__entry->offset = (u64)(region->first + first) << PAGE_SHIFT;
		__entry->length = (u64)nr << PAGE_SHIFT;
		__entry->nr_changed = nr_changed;
	),
	TP_printk("region=%llu offset=0x%llx length=0x%llx nr_changed=%llu",
		  __entry->region, __entry->offset, __entry->length,
		  __entry->nr_changed)
);

#define POSTCOPY_PAGES_EVENT(name)						\
DEFINE_EVENT(postcopy_pages, name,						\
	TP_PROTO(struct postcopy_region *region, unsigned long first,		\
		 unsigned long nr, unsigned long nr_changed),			\
	TP_ARGS(region, first, nr, nr_changed))

/* A request has been made for a page; nr_changed is 1. */
POSTCOPY_PAGES_EVENT(postcopy_request);
POSTCOPY_PAGES_EVENT(postcopy_fill);
POSTCOPY_PAGES_EVENT(postcopy_zero);
POSTCOPY_PAGES_EVENT(postcopy_present);
POSTCOPY_PAGES_EVENT(postcopy_discard);
POSTCOPY_PAGES_EVENT(postcopy_poison);

DECLARE_EVENT_CLASS(postcopy_region,
	TP_PROTO(struct postcopy_region *region, unsigned long nr_present),
	TP_ARGS(region, nr_present),
	TP_STRUCT__entry(
		__field(u64, region)
		__field(u64, nr_pages)
		__field(u64, nr_present)
	),
	TP_fast_assign(
		__entry->region = region->id;
		__entry->nr_pages = region->nr_pages;
		__entry->nr_present = nr_present;
	),
	TP_printk("region=%llu nr_pages=%llu nr_present=%llu",
		  __entry->region, __entry->nr_pages, __entry->nr_present)
);

#define POSTCOPY_REGION_EVENT(name)						\
DEFINE_EVENT(postcopy_region, name,						\
	TP_PROTO(struct postcopy_region *region, unsigned long nr_present),	\
	TP_ARGS(region, nr_present))

POSTCOPY_REGION_EVENT(postcopy_attach);
POSTCOPY_REGION_EVENT(postcopy_detach);
/* The region has become plain memory. */
POSTCOPY_REGION_EVENT(postcopy_convert);

#endif /* _POSTCOPY_TRACE_H */

#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH .
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE trace
#include <trace/define_trace.h>
