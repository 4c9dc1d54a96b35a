/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The test programs of /dev/postcopy share this: regions with a known content, and
 * accesses in threads of their own, so that a test can see that they wait.
 *
 * Functions that may fail return 0 or a negative errno. Nothing here sleeps to
 * let something happen: the wait_* functions poll for it, and give up after
 * PATIENCE_MS.
 */
#ifndef POSTCOPY_TEST_H
#define POSTCOPY_TEST_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/types.h>

#include <linux/postcopy.h>

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE	25
#endif

/* Of the kernel that the program runs on; set before main(). */
extern unsigned long page_size, huge_size;
#define PAGE		page_size
#define HUGE		huge_size
#define HUGE_PAGES	(HUGE / PAGE)
/* The largest page of any kernel, for arrays that need a constant. */
#define PAGE_MAX	(64UL << 10)
/* Seconds for one test; the harness has 30, which is little for an emulated debug kernel. */
#undef TEST_TIMEOUT_DEFAULT
#define TEST_TIMEOUT_DEFAULT	60
/* Long for an emulated processor on a busy machine. */
#define PATIENCE_MS	10000
/* An action that must not wait has to be over so soon, on the same machine. */
#define AT_ONCE_MS	5000

struct region {
	int context;
	/* -1 while not attached */
	int helper;
	uint64_t id;
	char *address;
	uint64_t offset;
	size_t length;
};

/* Opens a context and maps @nr_pages of a RAM image from @offset on. */
int region_map(struct region *r, uint64_t offset, size_t nr_pages);
/* Same with a context that is open, at an address aligned to HUGE. */
int region_map_in(struct region *r, int context, uint64_t offset, size_t nr_pages, int prot);
/* A new context, mapped with MAP_PRIVATE or MAP_SHARED in @flags, and its helper. */
int region_make(struct region *r, int flags, uint64_t offset, size_t nr_pages);
int region_attach(struct region *r);
void region_detach(struct region *r);
/* Closes the fds and unmaps the region. */
void region_close(struct region *r);
int region_policy(struct region *r, uint64_t detached_ms, uint64_t request_ms);
/* Id of the region that @pid has mapped at @address. 0: there is none. */
uint64_t region_find(int context, pid_t pid, const void *address);
int region_info(struct region *r, struct postcopy_region_info *info);
int region_info_by_id(int context, uint64_t id, struct postcopy_region_info *info);
int region_convert(struct region *r, uint32_t flags, uint64_t *nr_missing);

/* The content that page @page of a region must have: no word of it is 0. */
uint64_t page_word(struct region *r, size_t page, size_t word);
void page_pattern(struct region *r, size_t page, void *buffer);
/* True if page @page of the region, read at @at, is as it must be. */
bool page_is_right(struct region *r, size_t page, const void *at);
bool page_is_zero(const void *at);

static inline char *page_at(struct region *r, size_t page)
{
	return r->address + page * PAGE;
}

static inline struct postcopy_range pages_range(struct region *r, size_t first, size_t nr)
{
	return (struct postcopy_range){
		.offset = r->offset + first * PAGE,
		.length = nr * PAGE,
	};
}

/* nr of pages from @first on that are not as they must be */
size_t pages_wrong(struct region *r, size_t first, size_t nr);

/* One call, as it is. */
int pages_fill_raw(int helper, uint64_t offset, uint64_t length, const void *data,
		   struct postcopy_pages_fill *fill);
/* Fill pages with their pattern; the whole range, in as many calls as it takes. */
int pages_fill(struct region *r, size_t first, size_t nr, uint64_t *nr_filled);
int pages_zero(struct region *r, size_t first, size_t nr, uint64_t *nr_zeroed);
int pages_present(struct region *r, size_t first, size_t nr);
/* One call, as it is. */
int pages_discard(struct region *r, const struct postcopy_range *ranges, uint32_t nr,
		  uint64_t *nr_discarded);
int pages_poison(struct region *r, size_t first, size_t nr, uint64_t *nr_poisoned);
/* 1 present, 0 missing */
int page_is_present(struct region *r, size_t page);

/* Requests read now, without waiting; -EAGAIN if there is none. */
int requests_read(struct region *r, struct postcopy_request *requests, size_t nr);
/* Requests read until @nr have come. Returns how many did. */
size_t requests_read_all(struct region *r, struct postcopy_request *requests, size_t nr);

/* Serves requests in a thread until the region ends or the fd is closed. */
struct server {
	struct region *r;
	pthread_t thread;
	int stop[2];
	size_t nr_served;
	int error;
};

int server_start(struct server *s, struct region *r);
int server_stop(struct server *s);

enum access_kind {
	ACCESS_READ,		/* value = word at address */
	ACCESS_WRITE,		/* word at address = operand */
	ACCESS_ADD,		/* value = atomic fetch and add of operand */
	ACCESS_READ_CALL,	/* read(2) of operand into it */
	ACCESS_WRITE_CALL,	/* value = write(2) from it */
	ACCESS_READV_CALL,	/* value = process_vm_readv(2) from it */
	ACCESS_VMSPLICE,	/* value = vmsplice(2) of it */
	ACCESS_FUTEX,		/* futex(2) wait for a value it does not have */
	ACCESS_MLOCK,
	ACCESS_POPULATE_READ,
	ACCESS_POPULATE_WRITE,
	ACCESS_IO_URING,	/* registers it as a fixed buffer */
};

struct access {
	pthread_t thread;
	enum access_kind kind;
	char *address;
	uint64_t operand;
	uint64_t value;
	/* of the call, for those that are one: 0 or -errno */
	int error;
	/* SIGBUS or SIGSEGV that the access raised, or 0 */
	int signal;
	pid_t tid;
	bool started;
	bool done;
};

int access_start(struct access *a, enum access_kind kind, char *address, uint64_t operand);
/* The access sleeps and is not done. False: it got through, or never went to sleep. */
bool access_wait_blocked(struct access *a);
/* The access got through. False: it did not in time. */
bool access_wait_done(struct access *a);
bool access_is_done(struct access *a);

/* Runs until @condition is true. False: it never was. */
#define wait_until(condition)						\
	({								\
		uint64_t __end = now_ms() + PATIENCE_MS;		\
		bool __true;						\
									\
		while (!(__true = (condition)) && now_ms() < __end)	\
			pause_ms(1);					\
		__true;							\
	})
uint64_t now_ms(void);
void pause_ms(unsigned int ms);
bool wait_requests(struct region *r, uint64_t nr);
bool wait_faults(struct region *r, uint64_t nr);
bool thread_sleeps(pid_t pid, pid_t tid);
/* fork, and the child does not outlive a test that fails. */
pid_t fork_child(void);
/* 0 the child ended in time and *status is set */
int wait_child(pid_t pid, int *status);

/* Signal that reading a byte at @address raises, 0 if none. */
int probe_read(const volatile void *address);
int probe_write(volatile void *address);

/* PREEMPT_RT has none, and mappings need not begin where one could. */
bool has_huge_pages(void);
/* Which folios shmem makes by itself: "never" or "always" large ones. False: not on this kernel. */
bool shmem_folios(const char *word);
/* MADV_COLLAPSE, again while a page is in use for a moment. Returns its error. */
int memory_collapse(void *address);
/* A value in kB from the /proc/PID/smaps entry that holds @address, -1 if absent. */
long smaps_kb(pid_t pid, const void *address, const char *name);
int file_write(const char *path, const char *text);
/* The number that is the content of @path, -1 if there is none */
long file_number(const char *path);

/* A cgroup for one test; with the memory controller, if the kernel has it. */
int cgroup_make(const char *name);
/* Its file @file, of the controllers or of the core. */
int cgroup_write(const char *name, const char *file, const char *text);
int cgroup_read(const char *name, const char *file, char *text, size_t size);
/* Bytes charged to it now, -1 if it has no such file */
long cgroup_memory(const char *name);
/* The calling process moves there; with NULL to the root. */
int cgroup_enter(const char *name);
/* Removes it once all have left it. False: it is still there. */
bool cgroup_remove(const char *name);

#endif
