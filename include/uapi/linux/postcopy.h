/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * /dev/postcopy: guest RAM whose pages arrive after the guest has started.
 *
 * Objects
 *   context  one open of /dev/postcopy.
 *   region   guest RAM that one mmap() of a context created: the bytes
 *            [offset, offset + length) of a RAM image, all missing at first.
 *            Its id is unique as long as the module is loaded. A MAP_SHARED
 *            mapping inside a shared region of the same context is another
 *            mapping of that region, in whatever process; a mapping that
 *            overlaps the region otherwise fails with EINVAL.
 *   helper   the holder of a region's helper fd, one at a time. It reads requests
 *            and answers them with pages. When the fd is closed, for whatever
 *            reason, every unanswered request is queued again for the next
 *            helper, and the threads that wait go on waiting.
 *
 * Region states
 *   UNATTACHED  no helper yet; faults on missing pages wait
 *   ATTACHED    a helper holds the helper fd
 *   DETACHED    there was a helper, there is none now; faults wait
 *   CONVERTED   all pages were present; the memory is plain anonymous or
 *               shared memory now and has nothing to do with the driver
 *   DEAD        the owner's last mapping of the region is gone, or, of a shared
 *               region, the last mapping in any process
 *   UNATTACHED -> ATTACHED <-> DETACHED; from any of these to CONVERTED or DEAD,
 *   which are final.
 *
 * Page states
 *   A page is missing until FILL, ZERO or PRESENT makes it present. Nobody can
 *   read a missing page: a user-mode access waits (killably); a kernel-mode
 *   access waits too, or fails with EFAULT where the kernel does not let it
 *   wait. A missing page can be poisoned: an access raises SIGBUS with
 *   BUS_MCEERR_AR until the page becomes present. DISCARD makes a present page
 *   missing again.
 *
 * Offsets and lengths are in bytes, count from the start of the RAM image (so
 * a region's first page is at its own offset, not at 0) and are multiples of
 * the page size.
 *
 * Extensible structs: every struct starts with its size, which user space
 * sets to sizeof. A size smaller than the first version of the struct is
 * EINVAL. Bytes beyond those that this kernel knows must be zero, otherwise
 * E2BIG. Reserved fields and unknown flags must be zero, otherwise EINVAL. The
 * kernel writes members named out_*, on success only.
 *
 * Errors of every ioctl
 *   ENOTTY     not an ioctl of this kind of fd
 *   EFAULT     a pointer is bad; if only the result cannot be written, the
 *              call has taken effect all the same (except HELPER_ATTACH)
 *   EINVAL     size, flag, reserved field, alignment or range is wrong
 *   E2BIG      the struct has non-zero bytes that this kernel does not know
 *   EINTR      a signal came before anything was done
 * and of ioctls about a region:
 *   ESRCH      the region is dead
 *   EALREADY   the region is converted
 */
#ifndef _UAPI_LINUX_POSTCOPY_H
#define _UAPI_LINUX_POSTCOPY_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define POSTCOPY_DEVICE		"/dev/postcopy"
#define POSTCOPY_IOCTL_TYPE	0xBB

/* On a context fd. */
#define POSTCOPY_CONTEXT_INFO	_IO(POSTCOPY_IOCTL_TYPE, 0x00)
#define POSTCOPY_REGION_LIST	_IO(POSTCOPY_IOCTL_TYPE, 0x01)
#define POSTCOPY_HELPER_ATTACH	_IO(POSTCOPY_IOCTL_TYPE, 0x02)
#define POSTCOPY_CONTEXT_BACKING _IO(POSTCOPY_IOCTL_TYPE, 0x06)

/* On a context fd, and on a helper fd for the helper's own region. */
#define POSTCOPY_REGION_INFO	_IO(POSTCOPY_IOCTL_TYPE, 0x03)
#define POSTCOPY_REGION_CONVERT	_IO(POSTCOPY_IOCTL_TYPE, 0x04)
#define POSTCOPY_REGION_POLICY	_IO(POSTCOPY_IOCTL_TYPE, 0x05)

/* On a helper fd. */
#define POSTCOPY_PAGES_FILL	_IO(POSTCOPY_IOCTL_TYPE, 0x10)
#define POSTCOPY_PAGES_ZERO	_IO(POSTCOPY_IOCTL_TYPE, 0x11)
#define POSTCOPY_PAGES_QUERY	_IO(POSTCOPY_IOCTL_TYPE, 0x12)
#define POSTCOPY_PAGES_PRESENT	_IO(POSTCOPY_IOCTL_TYPE, 0x13)
#define POSTCOPY_PAGES_DISCARD	_IO(POSTCOPY_IOCTL_TYPE, 0x14)
#define POSTCOPY_PAGES_POISON	_IO(POSTCOPY_IOCTL_TYPE, 0x15)
#define POSTCOPY_HELPER_EXCHANGE _IO(POSTCOPY_IOCTL_TYPE, 0x16)

/**
 * struct postcopy_context_info - the features of this kernel module
 * @size: sizeof(struct postcopy_context_info)
 * @flags: must be 0
 * @out_features: POSTCOPY_FEATURE_* bits
 * @out_page_size: the unit of offsets and lengths, in bytes
 * @reserved: must be 0
 *
 * ioctl(context_fd, POSTCOPY_CONTEXT_INFO, &info). Needs no permission beyond
 * the fd.
 */
struct postcopy_context_info {
	__u32 size;
	__u32 flags;
	__aligned_u64 out_features;
	__u32 out_page_size;
	__u32 reserved;
};

/* MAP_PRIVATE regions. */
#define POSTCOPY_FEATURE_PRIVATE	(1ULL << 0)
/* MAP_SHARED regions, mmap of a helper fd, POSTCOPY_PAGES_PRESENT. */
#define POSTCOPY_FEATURE_SHARED		(1ULL << 1)
#define POSTCOPY_FEATURE_DISCARD	(1ULL << 2)
#define POSTCOPY_FEATURE_POISON		(1ULL << 3)
#define POSTCOPY_FEATURE_POLICY		(1ULL << 4)
#define POSTCOPY_FEATURE_EXCHANGE	(1ULL << 5)
/* POSTCOPY_CONTEXT_BACKING. */
#define POSTCOPY_FEATURE_BACKING	(1ULL << 6)

/**
 * struct postcopy_context_backing - a memfd to be the memory of shared regions
 * @size: sizeof(struct postcopy_context_backing)
 * @flags: must be 0
 * @offset: the memfd is for the RAM image from this byte on
 * @length: bytes, not 0
 * @file_offset: where byte @offset of the RAM image is in the memfd
 * @fd: the memfd, open for reading and writing; may be closed afterwards
 * @reserved: must be 0
 *
 * ioctl(context_fd, POSTCOPY_CONTEXT_BACKING, &backing), once for a context and
 * before its first shared mapping. The shared regions of the context are then
 * parts of the memfd instead of memory of their own; a MAP_SHARED mapping of the
 * context that is not inside [@offset, @offset + @length) fails with ENXIO.
 * MAP_PRIVATE mappings do not use the memfd.
 *
 * Whatever is in the memfd, every page of a new region is missing, and missing
 * pages are not readable through mappings of the context. Through the memfd itself
 * all pages are readable, delivered or not: a process that maps, reads or writes
 * the memfd before the region is converted has no protection, and must not write to
 * missing pages. A delivered page that it removes (by punching a hole) reads zero.
 * POSTCOPY_PAGES_PRESENT makes a page present with the content it has in the memfd;
 * FILL and ZERO replace the content.
 *
 * Seals: F_SEAL_SHRINK must be set, so that no page goes away below the
 * mappings; F_SEAL_GROW and F_SEAL_SEAL may be set. F_SEAL_WRITE cannot be added as
 * long as the context has the memfd (EBUSY). If F_SEAL_FUTURE_WRITE is added, FILL,
 * ZERO and new mappings fail with EPERM; missing pages stay missing.
 *
 * The context has the memfd until the context is closed and all mappings and
 * helper fds of its regions are gone. The range of a dead region cannot be mapped
 * again (EBUSY) before the region's helper fd is closed, because the memory is the
 * same.
 *
 * Errors: EBADF @fd is not open, EACCES it is not open for reading and writing,
 * EOPNOTSUPP it is on hugetlbfs, EINVAL also if it is no memfd or ends before
 * @file_offset + @length, EPERM it lacks F_SEAL_SHRINK or is sealed against writing,
 * EBUSY the context has a backing or a shared region, or another context has
 * this memfd, ENFILE, ENOMEM.
 */
struct postcopy_context_backing {
	__u32 size;
	__u32 flags;
	__aligned_u64 offset;
	__aligned_u64 length;
	__aligned_u64 file_offset;
	__s32 fd;
	__u32 reserved;
};

/**
 * struct postcopy_region_list - ids of the regions the caller may attach to
 * @size: sizeof(struct postcopy_region_list)
 * @flags: must be 0
 * @ids: address of an array of __u64, may be 0 if @nr_ids is 0
 * @nr_ids: how many ids the array can hold
 * @out_nr_ids: how many regions there are; if more than @nr_ids, only the
 *	first @nr_ids (in rising order) were written: call again with a larger
 *	array
 *
 * ioctl(context_fd, POSTCOPY_REGION_LIST, &list). Lists the regions of this
 * context, those of the caller's effective user, and all regions for
 * CAP_SYS_ADMIN in the initial user namespace. Converted and dead regions are not
 * listed.
 *
 * A context fd polls readable (EPOLLIN) if regions have been created since the
 * last POSTCOPY_REGION_LIST on it, and a new one if any have been created at all.
 */
struct postcopy_region_list {
	__u32 size;
	__u32 flags;
	__aligned_u64 ids;
	__u32 nr_ids;
	__u32 out_nr_ids;
};

/* The region was mapped MAP_PRIVATE: it ends as plain anonymous memory. */
#define POSTCOPY_REGION_PRIVATE		(1U << 0)
/* The region was mapped MAP_SHARED: it ends as plain shared memory (shmem). */
#define POSTCOPY_REGION_SHARED		(1U << 1)

enum postcopy_region_state {
	POSTCOPY_REGION_UNATTACHED	= 0,
	POSTCOPY_REGION_ATTACHED	= 1,
	POSTCOPY_REGION_DETACHED	= 2,
	POSTCOPY_REGION_CONVERTED	= 3,
	POSTCOPY_REGION_DEAD		= 4,
};

/* Buckets of the wait histogram. */
#define POSTCOPY_WAIT_BUCKETS		32

/* How many of the threads that have waited longest are named. */
#define POSTCOPY_WAITERS		8

/**
 * struct postcopy_waiter_info - the longest wait of a thread
 * @wait_ns: nanoseconds
 * @tid: thread id in the caller's pid namespace, 0 if it is not visible there; the
 *	thread may have ended since
 * @reserved: 0
 */
struct postcopy_waiter_info {
	__aligned_u64 wait_ns;
	__u32 tid;
	__u32 reserved;
};

/**
 * struct postcopy_region_info - one region, its state and its counters
 * @size: sizeof(struct postcopy_region_info)
 * @flags: must be 0
 * @region_id: which region; on a helper fd 0 or the id of the helper's own
 * @out_offset: first byte of the region in the RAM image
 * @out_length: bytes
 * @out_address: where it is mapped in the owner
 * @out_state: enum postcopy_region_state
 * @out_region_flags: POSTCOPY_REGION_PRIVATE or POSTCOPY_REGION_SHARED
 * @out_pid: process id of the owner in the caller's pid namespace, 0 if it is
 *	not visible there or has exited
 * @out_uid: effective user id of the owner when it mapped the region
 * @out_helper_pid: process id of the attached helper, 0 if there is none
 * @reserved: must be 0
 * @out_comm: name of the owner's main thread when it mapped the region,
 *	NUL-terminated
 * @out_nr_pages: pages in the region
 * @out_nr_present: pages that are present
 * @out_nr_requests: requests not answered yet
 * @out_nr_queued: of these, requests that no helper has read
 * @out_total_faults: faults that found their page missing
 * @out_total_requests: requests made for these faults (fewer, because threads
 *	that fault on the same page share one)
 * @out_total_filled: pages made present by POSTCOPY_PAGES_FILL,
 *	POSTCOPY_HELPER_EXCHANGE and POSTCOPY_PAGES_PRESENT
 * @out_total_zeroed: pages made present by POSTCOPY_PAGES_ZERO
 * @out_total_discarded: pages made missing by POSTCOPY_PAGES_DISCARD
 * @out_nr_poisoned: missing pages that are poisoned
 * @out_total_attached: how often a helper has attached
 * @out_wait_ns: sum of the times threads have waited, nanoseconds
 * @out_wait_max_ns: the longest of these times, nanoseconds
 * @out_wait_histogram: finished waits by duration: bucket 0 counts those under
 *	1024 ns, bucket i those from 2^(9+i) to just under 2^(10+i) ns, the last
 *	bucket also all longer ones
 * @out_waiters: the threads with the longest single waits, the longest first;
 *	unused entries are 0
 *
 * ioctl(fd, POSTCOPY_REGION_INFO, &info), any state. On a helper fd it also
 * works for a region that is converted or dead.
 *
 * Errors: ENOENT no such region (converted and dead ones have left the table),
 * EPERM the caller may not attach to the region.
 */
struct postcopy_region_info {
	__u32 size;
	__u32 flags;
	__aligned_u64 region_id;
	__aligned_u64 out_offset;
	__aligned_u64 out_length;
	__aligned_u64 out_address;
	__u32 out_state;
	__u32 out_region_flags;
	__u32 out_pid;
	__u32 out_uid;
	__u32 out_helper_pid;
	__u32 reserved;
	char out_comm[16];
	__aligned_u64 out_nr_pages;
	__aligned_u64 out_nr_present;
	__aligned_u64 out_nr_requests;
	__aligned_u64 out_nr_queued;
	__aligned_u64 out_total_faults;
	__aligned_u64 out_total_requests;
	__aligned_u64 out_total_filled;
	__aligned_u64 out_total_zeroed;
	__aligned_u64 out_total_discarded;
	__aligned_u64 out_nr_poisoned;
	__aligned_u64 out_total_attached;
	__aligned_u64 out_wait_ns;
	__aligned_u64 out_wait_max_ns;
	__aligned_u64 out_wait_histogram[POSTCOPY_WAIT_BUCKETS];
	struct postcopy_waiter_info out_waiters[POSTCOPY_WAITERS];
};

/**
 * struct postcopy_helper_attach - become a region's helper
 * @size: sizeof(struct postcopy_helper_attach)
 * @flags: must be 0
 * @region_id: the region
 * @out_fd: the helper fd, close-on-exec
 * @reserved: must be 0
 *
 * ioctl(context_fd, POSTCOPY_HELPER_ATTACH, &attach). Allowed on the context
 * that mapped the region (the fd is a capability and may be passed over a
 * socket), for the owner's user, and for CAP_SYS_ADMIN in the initial user
 * namespace.
 *
 * The helper fd
 *   read()   returns as many whole struct postcopy_request as are queued and
 *            fit, oldest first, and waits for one if there is none; a request
 *            is returned once. 0: the region is converted or dead. EAGAIN with
 *            O_NONBLOCK, EINVAL if not even one fits, EFAULT loses no request.
 *   poll()   EPOLLIN requests are queued, EPOLLHUP the region is converted or
 *            dead.
 *   mmap()   MAP_SHARED, of a shared region or a part of it (the file offset is
 *            an offset in the RAM image): the region's memory itself. Data
 *            received into a missing page there becomes readable to others by
 *            POSTCOPY_PAGES_PRESENT. Never write to a present page. The
 *            mapping stays when the fd is closed. EOPNOTSUPP for a private
 *            region, EINVAL outside the region.
 *   close()  detaches.
 * Any number of threads may use the fd at once.
 *
 * Errors: ENOENT no such region, EPERM not allowed, EBUSY the region has a
 * helper, EMFILE and ENFILE no fd free, ENOMEM.
 */
struct postcopy_helper_attach {
	__u32 size;
	__u32 flags;
	__aligned_u64 region_id;
	__s32 out_fd;
	__u32 reserved;
};

/* At least one of the waiting accesses is a write. */
#define POSTCOPY_REQUEST_WRITE		(1U << 0)

/**
 * struct postcopy_request - missing pages that somebody waits for, from read(helper_fd)
 * @offset: first byte in the RAM image
 * @length: bytes
 * @time_ns: when the first access came, CLOCK_MONOTONIC nanoseconds
 * @flags: POSTCOPY_REQUEST_WRITE
 * @reserved: 0
 *
 * A request is answered when its pages become present, in whatever way. Pages may
 * become present before their request is read, and without any request.
 */
struct postcopy_request {
	__aligned_u64 offset;
	__aligned_u64 length;
	__aligned_u64 time_ns;
	__u32 flags;
	__u32 reserved;
};

/**
 * struct postcopy_pages_fill - make pages present with data
 * @size: sizeof(struct postcopy_pages_fill)
 * @flags: must be 0
 * @offset: first byte in the RAM image
 * @length: bytes, not 0
 * @data: address of @length readable bytes of the caller; page-aligned is
 *	fastest
 * @out_length: bytes dealt with, from @offset on; they are present now
 * @out_nr_filled: pages that were missing and got this data
 *
 * ioctl(helper_fd, POSTCOPY_PAGES_FILL, &fill). A page that was present is
 * left as it is, because the guest may have written to it. A page that the owner
 * has unmapped becomes present.
 *
 * Like write(2) it may deal with less than asked, never with 0 bytes; the
 * caller goes on at @offset + @out_length. After an error nothing was changed.
 *
 * Memory of a private region is allocated with the owner's NUMA policy and
 * charged to the owner's memory cgroup; of a shared one, with the policy of the
 * shared memory (mbind) and charged to the caller's.
 *
 * Errors: EFAULT @data cannot be read, ENOMEM no memory for the owner's page,
 * EIO a page table entry of the owner is in the way, EPERM the memory is a memfd
 * that has been sealed (POSTCOPY_CONTEXT_BACKING).
 */
struct postcopy_pages_fill {
	__u32 size;
	__u32 flags;
	__aligned_u64 offset;
	__aligned_u64 length;
	__aligned_u64 data;
	__aligned_u64 out_length;
	__aligned_u64 out_nr_filled;
};

/* If no request is queued, wait for one. */
#define POSTCOPY_EXCHANGE_WAIT		(1U << 0)

/**
 * struct postcopy_helper_exchange - answer a request and get the next, in one call
 * @size: sizeof(struct postcopy_helper_exchange)
 * @flags: 0 or POSTCOPY_EXCHANGE_WAIT
 * @offset: of the pages, as for POSTCOPY_PAGES_FILL; 0 if @length is 0
 * @length: of the pages, as for POSTCOPY_PAGES_FILL; 0: no pages
 * @data: of the pages, as for POSTCOPY_PAGES_FILL; 0 if @length is 0
 * @requests: address of an array of struct postcopy_request; 0 if @nr_requests
 *	is 0
 * @nr_requests: length of the array; 0: read no requests
 * @out_nr_requests: requests written, as by read(); at most 16 at once
 * @out_length: bytes dealt with, as for POSTCOPY_PAGES_FILL
 * @out_nr_filled: pages that were missing and got this data
 *
 * ioctl(helper_fd, POSTCOPY_HELPER_EXCHANGE, &exchange) is POSTCOPY_PAGES_FILL
 * and, if that has dealt with all of @length, a read(). The read waits if
 * POSTCOPY_EXCHANGE_WAIT is set, whatever O_NONBLOCK is. If a signal comes or the
 * region ends after pages were dealt with, the call returns 0 with
 * @out_nr_requests 0.
 *
 * Errors: those of POSTCOPY_PAGES_FILL, with no request read; EFAULT also if
 * @requests or the struct cannot be written: no request is lost, but pages may
 * have been made present. EAGAIN @length is 0 and no request is queued.
 */
struct postcopy_helper_exchange {
	__u32 size;
	__u32 flags;
	__aligned_u64 offset;
	__aligned_u64 length;
	__aligned_u64 data;
	__aligned_u64 requests;
	__u32 nr_requests;
	__u32 out_nr_requests;
	__aligned_u64 out_length;
	__aligned_u64 out_nr_filled;
};

/**
 * struct postcopy_range - part of a RAM image
 * @offset: first byte
 * @length: bytes, not 0
 */
struct postcopy_range {
	__aligned_u64 offset;
	__aligned_u64 length;
};

/**
 * struct postcopy_pages_zero - make pages present with zeros
 * @size: sizeof(struct postcopy_pages_zero)
 * @flags: must be 0
 * @ranges: address of an array of struct postcopy_range
 * @nr_ranges: its length, 1 to POSTCOPY_MAX_RANGES
 * @out_nr_ranges: ranges dealt with, from the first on
 * @out_nr_zeroed: pages that were missing
 *
 * ioctl(helper_fd, POSTCOPY_PAGES_ZERO, &zero). Takes no memory for the pages
 * and touches no page table. Data that was written to missing pages of a shared
 * region through a mapping of the helper fd is dropped. A page that was present
 * is left as it is. All ranges are checked before anything is changed. If a
 * signal comes, @out_nr_ranges may be less than @nr_ranges, never 0.
 */
struct postcopy_pages_zero {
	__u32 size;
	__u32 flags;
	__aligned_u64 ranges;
	__u32 nr_ranges;
	__u32 out_nr_ranges;
	__aligned_u64 out_nr_zeroed;
};

#define POSTCOPY_MAX_RANGES		65536

/**
 * struct postcopy_pages_present - make pages present whose data is in place
 * @size: sizeof(struct postcopy_pages_present)
 * @flags: must be 0
 * @ranges: address of an array of struct postcopy_range
 * @nr_ranges: its length, 1 to POSTCOPY_MAX_RANGES
 * @out_nr_ranges: ranges dealt with, from the first on
 * @out_nr_marked: pages that were missing
 *
 * ioctl(helper_fd, POSTCOPY_PAGES_PRESENT, &present), after their data has been
 * written through a mapping of the helper fd. Otherwise as POSTCOPY_PAGES_ZERO.
 *
 * Errors: EOPNOTSUPP the region is private.
 */
struct postcopy_pages_present {
	__u32 size;
	__u32 flags;
	__aligned_u64 ranges;
	__u32 nr_ranges;
	__u32 out_nr_ranges;
	__aligned_u64 out_nr_marked;
};

/**
 * struct postcopy_pages_discard - make pages missing again
 * @size: sizeof(struct postcopy_pages_discard)
 * @flags: must be 0
 * @ranges: address of an array of struct postcopy_range
 * @nr_ranges: its length, 1 to POSTCOPY_MAX_RANGES
 * @reserved: must be 0
 * @out_nr_discarded: pages that were present
 *
 * ioctl(helper_fd, POSTCOPY_PAGES_DISCARD, &discard), for pages that the source
 * has written to since they were filled. The content of the pages is lost, even
 * what the guest wrote, so discard before the guest runs. From then on accesses
 * wait for the new content. All ranges are dealt with or none.
 */
struct postcopy_pages_discard {
	__u32 size;
	__u32 flags;
	__aligned_u64 ranges;
	__u32 nr_ranges;
	__u32 reserved;
	__aligned_u64 out_nr_discarded;
};

/**
 * struct postcopy_pages_poison - give up missing pages
 * @size: sizeof(struct postcopy_pages_poison)
 * @flags: must be 0
 * @ranges: address of an array of struct postcopy_range
 * @nr_ranges: its length, 1 to POSTCOPY_MAX_RANGES
 * @out_nr_ranges: ranges dealt with, from the first on
 * @out_nr_poisoned: pages that were missing and not poisoned
 *
 * ioctl(helper_fd, POSTCOPY_PAGES_POISON, &poison), when the source has lost
 * the pages for good. A thread that waits for one of them, or touches it later,
 * gets SIGBUS (BUS_MCEERR_AR, the address of the access); a KVM guest gets a memory
 * error. A present page is left as it is. A poisoned page is still missing: it
 * prevents conversion, and FILL, ZERO or PRESENT make it present after all.
 */
struct postcopy_pages_poison {
	__u32 size;
	__u32 flags;
	__aligned_u64 ranges;
	__u32 nr_ranges;
	__u32 out_nr_ranges;
	__aligned_u64 out_nr_poisoned;
};

/**
 * struct postcopy_pages_query - ask which pages are present
 * @size: sizeof(struct postcopy_pages_query)
 * @flags: must be 0
 * @offset: first byte in the RAM image; its distance from the region's offset
 *	is a multiple of 64 pages
 * @length: bytes, not 0
 * @bitmap: address of an array of __u64, one for each 64 pages or part of them;
 *	bit i of element j (bit 0 the lowest) is page 64 * j + i from @offset on,
 *	set if present; bits beyond @length are 0
 * @out_nr_present: set bits
 *
 * ioctl(helper_fd, POSTCOPY_PAGES_QUERY, &query). While other threads change
 * pages, each bit is right for some moment during the call.
 */
struct postcopy_pages_query {
	__u32 size;
	__u32 flags;
	__aligned_u64 offset;
	__aligned_u64 length;
	__aligned_u64 bitmap;
	__aligned_u64 out_nr_present;
};

/**
 * struct postcopy_region_policy - limit how long an access may wait
 * @size: sizeof(struct postcopy_region_policy)
 * @flags: must be 0
 * @region_id: which region; on a helper fd 0 or the id of the helper's own
 * @detached_ms: milliseconds without a helper after which accesses to missing
 *	pages raise SIGBUS instead of waiting, less than 2^32; 0 (the
 *	default): wait for ever
 * @request_ms: milliseconds after which the threads that wait for one page get
 *	SIGBUS, counted from the first access to it, less than 2^32; 0 (the
 *	default): wait for ever
 *
 * ioctl(fd, POSTCOPY_REGION_POLICY, &policy). Applies to accesses that wait
 * already, too, as if they came now. No access gets SIGBUS before the limit, and
 * none much more than a tenth of a second after it. When the page arrives after
 * all, or a helper comes, accesses work again. A vCPU of KVM gets the same as for
 * a poisoned page, BUS_MCEERR_AR: after any other error KVM tries again (x86) or
 * KVM_RUN fails (arm64).
 */
struct postcopy_region_policy {
	__u32 size;
	__u32 flags;
	__aligned_u64 region_id;
	__aligned_u64 detached_ms;
	__aligned_u64 request_ms;
};

/*
 * Also let go of the owner's context fd if no other region of that context is
 * left. From then on it is a dead fd (mmap fails with EACCES, ioctl with
 * ENOTTY), so a VMM that keeps it open for ever, as QEMU does, does not keep the
 * module loaded. A context that has been polled is not let go of.
 */
#define POSTCOPY_CONVERT_RETIRE_CONTEXT	(1U << 0)

/**
 * struct postcopy_region_convert - turn a region into plain memory
 * @size: sizeof(struct postcopy_region_convert)
 * @flags: 0 or POSTCOPY_CONVERT_RETIRE_CONTEXT
 * @region_id: which region; on a helper fd 0 or the id of the helper's own
 * @out_nr_missing: pages that are still missing; written with EBUSY, too
 *
 * ioctl(fd, POSTCOPY_REGION_CONVERT, &convert). All pages must be present; of a
 * private region parts that the owner has unmapped do not count. The content stays,
 * running threads notice nothing; afterwards swap, huge pages, KSM, fork and
 * migration treat the region as the anonymous memory it is. A shared region becomes
 * plain shared memory in every process that maps it; later mappings of its context
 * map that memory. On a context fd the caller needs the same permission as for
 * POSTCOPY_HELPER_ATTACH.
 *
 * Errors: EBUSY pages are missing, nothing was changed; ENOENT, EPERM as for
 * POSTCOPY_HELPER_ATTACH.
 */
struct postcopy_region_convert {
	__u32 size;
	__u32 flags;
	__aligned_u64 region_id;
	__aligned_u64 out_nr_missing;
};

#endif /* _UAPI_LINUX_POSTCOPY_H */
