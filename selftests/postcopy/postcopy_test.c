// SPDX-License-Identifier: GPL-2.0
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <linux/io_uring.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "postcopy_test.h"

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ	22
#define MADV_POPULATE_WRITE	23
#endif

unsigned long page_size, huge_size;

__attribute__((constructor)) static void sizes_learn(void)
{
	long huge = file_number("/sys/kernel/mm/transparent_hugepage/hpage_pmd_size");

	page_size = sysconf(_SC_PAGESIZE);
	/* Without huge pages: what one page of page table entries maps. */
	huge_size = huge > 0 ? huge : page_size / sizeof(uint64_t) * page_size;
}

uint64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000ULL + ts.tv_nsec / 1000000;
}

void pause_ms(unsigned int ms)
{
	struct timespec ts = { .tv_nsec = ms * 1000000L };

	nanosleep(&ts, NULL);
}

/* Regions */

int region_map_in(struct region *r, int context, uint64_t offset, size_t nr_pages, int prot)
{
	size_t length = nr_pages * PAGE;
	char *reserved, *address;

	r->context = context;
	r->helper = -1;
	r->offset = offset;
	r->length = length;
	/* As QEMU does: reserve an address range, then map into it. */
	reserved = mmap(NULL, length + HUGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (reserved == MAP_FAILED)
		return -errno;
	address = (char *)(((uintptr_t)reserved + HUGE - 1) & ~(HUGE - 1));
	r->address = mmap(address, length, prot, MAP_PRIVATE | MAP_FIXED, context, offset);
	if (r->address == MAP_FAILED)
		return -errno;
	munmap(reserved, address - reserved);
	munmap(address + length, reserved + HUGE - address);
	r->id = region_find(context, getpid(), r->address);
	return r->id ? 0 : -ENOENT;
}

int region_map(struct region *r, uint64_t offset, size_t nr_pages)
{
	int context = open(POSTCOPY_DEVICE, O_RDWR | O_CLOEXEC);

	if (context < 0)
		return -errno;
	return region_map_in(r, context, offset, nr_pages, PROT_READ | PROT_WRITE);
}

int region_make(struct region *r, int flags, uint64_t offset, size_t nr_pages)
{
	r->helper = -1;
	r->offset = offset;
	r->length = nr_pages * PAGE;
	r->context = open(POSTCOPY_DEVICE, O_RDWR | O_CLOEXEC);
	if (r->context < 0)
		return -errno;
	r->address = mmap(NULL, r->length, PROT_READ | PROT_WRITE, flags, r->context, offset);
	if (r->address == MAP_FAILED)
		return -errno;
	r->id = region_find(r->context, getpid(), r->address);
	return r->id ? region_attach(r) : -ENOENT;
}

int region_attach(struct region *r)
{
	struct postcopy_helper_attach attach = {
		.size = sizeof(attach),
		.region_id = r->id,
	};

	if (ioctl(r->context, POSTCOPY_HELPER_ATTACH, &attach))
		return -errno;
	r->helper = attach.out_fd;
	return 0;
}

void region_detach(struct region *r)
{
	close(r->helper);
	r->helper = -1;
}

void region_close(struct region *r)
{
	if (r->helper >= 0)
		close(r->helper);
	if (r->context >= 0)
		close(r->context);
	munmap(r->address, r->length);
	r->helper = -1;
	r->context = -1;
}

int region_policy(struct region *r, uint64_t detached_ms, uint64_t request_ms)
{
	struct postcopy_region_policy policy = {
		.size = sizeof(policy),
		.region_id = r->id,
		.detached_ms = detached_ms,
		.request_ms = request_ms,
	};

	return ioctl(r->context, POSTCOPY_REGION_POLICY, &policy) ? -errno : 0;
}

uint64_t region_find(int context, pid_t pid, const void *address)
{
	uint64_t ids[1024];
	struct postcopy_region_list list = {
		.size = sizeof(list),
		.ids = (uintptr_t)ids,
		.nr_ids = 1024,
	};
	struct postcopy_region_info info;
	unsigned int i;

	if (ioctl(context, POSTCOPY_REGION_LIST, &list))
		return 0;
	/* The latest is the one that is looked for. */
	for (i = list.out_nr_ids < list.nr_ids ? list.out_nr_ids : list.nr_ids; i-- > 0;) {
		if (region_info_by_id(context, ids[i], &info))
			continue;
		if (info.out_pid == (uint32_t)pid && info.out_address == (uintptr_t)address)
			return ids[i];
	}
	return 0;
}

int region_info_by_id(int context, uint64_t id, struct postcopy_region_info *info)
{
	memset(info, 0, sizeof(*info));
	info->size = sizeof(*info);
	info->region_id = id;
	return ioctl(context, POSTCOPY_REGION_INFO, info) ? -errno : 0;
}

int region_info(struct region *r, struct postcopy_region_info *info)
{
	if (r->helper >= 0)
		return region_info_by_id(r->helper, 0, info);
	return region_info_by_id(r->context, r->id, info);
}

int region_convert(struct region *r, uint32_t flags, uint64_t *nr_missing)
{
	struct postcopy_region_convert convert = {
		.size = sizeof(convert),
		.flags = flags,
		.region_id = r->helper >= 0 ? 0 : r->id,
	};
	int fd = r->helper >= 0 ? r->helper : r->context;
	int error = ioctl(fd, POSTCOPY_REGION_CONVERT, &convert) ? -errno : 0;

	if (nr_missing)
		*nr_missing = convert.out_nr_missing;
	return error;
}

/* Contents */

uint64_t page_word(struct region *r, size_t page, size_t word)
{
	uint64_t x = r->offset / 8 + page * (PAGE / 8) + word;

	x = (x ^ 0x9e3779b97f4a7c15ULL) * 0xbf58476d1ce4e5b9ULL;
	return (x ^ (x >> 31)) | 1;
}

void page_pattern(struct region *r, size_t page, void *buffer)
{
	uint64_t *words = buffer;
	size_t i;

	for (i = 0; i < PAGE / 8; i++)
		words[i] = page_word(r, page, i);
}

bool page_is_right(struct region *r, size_t page, const void *at)
{
	const uint64_t *words = at;
	size_t i;

	for (i = 0; i < PAGE / 8; i++)
		if (words[i] != page_word(r, page, i))
			return false;
	return true;
}

bool page_is_zero(const void *at)
{
	const uint64_t *words = at;
	size_t i;

	for (i = 0; i < PAGE / 8; i++)
		if (words[i])
			return false;
	return true;
}

size_t pages_wrong(struct region *r, size_t first, size_t nr)
{
	size_t i, wrong = 0;

	for (i = first; i < first + nr; i++)
		wrong += !page_is_right(r, i, page_at(r, i));
	return wrong;
}

/* Answers */

int pages_fill_raw(int helper, uint64_t offset, uint64_t length, const void *data,
		   struct postcopy_pages_fill *fill)
{
	*fill = (struct postcopy_pages_fill){
		.size = sizeof(*fill),
		.offset = offset,
		.length = length,
		.data = (uintptr_t)data,
	};
	return ioctl(helper, POSTCOPY_PAGES_FILL, fill) ? -errno : 0;
}

int pages_fill(struct region *r, size_t first, size_t nr, uint64_t *nr_filled)
{
	struct postcopy_pages_fill fill;
	char *data = NULL;
	size_t done = 0;
	int error = 0;
	size_t i;

	if (nr_filled)
		*nr_filled = 0;
	if (posix_memalign((void **)&data, PAGE, nr * PAGE))
		return -ENOMEM;
	for (i = 0; i < nr; i++)
		page_pattern(r, first + i, data + i * PAGE);
	while (done < nr * PAGE) {
		error = pages_fill_raw(r->helper, r->offset + first * PAGE + done,
				       nr * PAGE - done, data + done, &fill);
		if (error)
			break;
		if (!fill.out_length || fill.out_length > nr * PAGE - done ||
		    fill.out_length % PAGE) {
			error = -EPROTO;
			break;
		}
		done += fill.out_length;
		if (nr_filled)
			*nr_filled += fill.out_nr_filled;
	}
	free(data);
	return error;
}

int pages_zero(struct region *r, size_t first, size_t nr, uint64_t *nr_zeroed)
{
	struct postcopy_range range = pages_range(r, first, nr);
	struct postcopy_pages_zero zero = {
		.size = sizeof(zero),
		.ranges = (uintptr_t)&range,
		.nr_ranges = 1,
	};

	if (ioctl(r->helper, POSTCOPY_PAGES_ZERO, &zero))
		return -errno;
	if (nr_zeroed)
		*nr_zeroed = zero.out_nr_zeroed;
	return zero.out_nr_ranges == 1 ? 0 : -EPROTO;
}

int pages_present(struct region *r, size_t first, size_t nr)
{
	struct postcopy_range range = pages_range(r, first, nr);
	struct postcopy_pages_present present = {
		.size = sizeof(present),
		.ranges = (uintptr_t)&range,
		.nr_ranges = 1,
	};

	return ioctl(r->helper, POSTCOPY_PAGES_PRESENT, &present) ? -errno : 0;
}

int pages_discard(struct region *r, const struct postcopy_range *ranges, uint32_t nr,
		  uint64_t *nr_discarded)
{
	struct postcopy_pages_discard discard = {
		.size = sizeof(discard),
		.ranges = (uintptr_t)ranges,
		.nr_ranges = nr,
	};

	if (ioctl(r->helper, POSTCOPY_PAGES_DISCARD, &discard))
		return -errno;
	*nr_discarded = discard.out_nr_discarded;
	return 0;
}

int pages_poison(struct region *r, size_t first, size_t nr, uint64_t *nr_poisoned)
{
	struct postcopy_range range = {
		.offset = r->offset + first * PAGE,
		.length = nr * PAGE,
	};
	struct postcopy_pages_poison poison = {
		.size = sizeof(poison),
		.ranges = (uintptr_t)&range,
		.nr_ranges = 1,
	};

	if (ioctl(r->helper, POSTCOPY_PAGES_POISON, &poison))
		return -errno;
	*nr_poisoned = poison.out_nr_poisoned;
	return 0;
}

int page_is_present(struct region *r, size_t page)
{
	uint64_t bits = 0;
	size_t first = page / 64 * 64;
	size_t nr = r->length / PAGE - first;
	struct postcopy_pages_query query = {
		.size = sizeof(query),
		.offset = r->offset + first * PAGE,
		.length = (nr < 64 ? nr : 64) * PAGE,
		.bitmap = (uintptr_t)&bits,
	};

	if (ioctl(r->helper, POSTCOPY_PAGES_QUERY, &query))
		return -errno;
	return bits >> (page - first) & 1;
}

/* Requests */

int requests_read(struct region *r, struct postcopy_request *requests, size_t nr)
{
	int flags = fcntl(r->helper, F_GETFL);
	ssize_t len;

	fcntl(r->helper, F_SETFL, flags | O_NONBLOCK);
	len = read(r->helper, requests, nr * sizeof(*requests));
	if (len < 0)
		len = -errno;
	fcntl(r->helper, F_SETFL, flags);
	return len < 0 ? len : len / (ssize_t)sizeof(*requests);
}

size_t requests_read_all(struct region *r, struct postcopy_request *requests, size_t nr)
{
	uint64_t end = now_ms() + PATIENCE_MS;
	size_t done = 0;
	int n;

	while (done < nr && now_ms() < end) {
		n = requests_read(r, requests + done, nr - done);
		if (n > 0)
			done += n;
		else
			pause_ms(1);
	}
	return done;
}

static void *server_run(void *arg)
{
	struct server *s = arg;
	struct region *r = s->r;
	struct postcopy_request request[16];
	struct pollfd polls[2] = {
		{ .fd = r->helper, .events = POLLIN },
		{ .fd = s->stop[0], .events = POLLIN },
	};
	int i, n;

	for (;;) {
		poll(polls, 2, -1);
		if (polls[1].revents)
			return NULL;
		n = requests_read(r, request, 16);
		if (n == 0)
			return NULL;
		if (n < 0 && n != -EAGAIN && n != -EINTR) {
			s->error = n;
			return NULL;
		}
		for (i = 0; i < n; i++) {
			s->error = pages_fill(r, (request[i].offset - r->offset) / PAGE,
					      request[i].length / PAGE, NULL);
			if (s->error)
				return NULL;
			s->nr_served++;
		}
	}
}

int server_start(struct server *s, struct region *r)
{
	*s = (struct server){ .r = r };
	if (pipe2(s->stop, O_CLOEXEC))
		return -errno;
	return -pthread_create(&s->thread, NULL, server_run, s);
}

int server_stop(struct server *s)
{
	close(s->stop[1]);
	pthread_join(s->thread, NULL);
	close(s->stop[0]);
	return s->error;
}

/* Accesses */

static __thread sigjmp_buf * volatile fault_catcher;
static __thread volatile int fault_signal;

static void on_fault(int sig)
{
	if (!fault_catcher) {
		signal(sig, SIG_DFL);
		return;
	}
	fault_signal = sig;
	siglongjmp(*fault_catcher, 1);
}

static void catch_faults(void)
{
	struct sigaction action = { .sa_handler = on_fault, .sa_flags = SA_NODEFER };

	sigaction(SIGBUS, &action, NULL);
	sigaction(SIGSEGV, &action, NULL);
}

int probe_read(const volatile void *address)
{
	sigjmp_buf env;

	catch_faults();
	fault_signal = 0;
	if (!sigsetjmp(env, 1)) {
		fault_catcher = &env;
		(void)*(const volatile char *)address;
	}
	fault_catcher = NULL;
	return fault_signal;
}

int probe_write(volatile void *address)
{
	sigjmp_buf env;

	catch_faults();
	fault_signal = 0;
	if (!sigsetjmp(env, 1)) {
		fault_catcher = &env;
		*(volatile char *)address = 1;
	}
	fault_catcher = NULL;
	return fault_signal;
}

static int result(long ret)
{
	return ret < 0 ? -errno : 0;
}

static int io_uring_register_buffer(char *address)
{
	struct io_uring_params params = { 0 };
	struct iovec iov = { address, PAGE };
	int fd = syscall(SYS_io_uring_setup, 4, &params);
	int error;

	if (fd < 0)
		return -errno;
	error = result(syscall(SYS_io_uring_register, fd, IORING_REGISTER_BUFFERS, &iov, 1));
	close(fd);
	return error;
}

static void access_perform(struct access *a, const int pipe_fds[2])
{
	volatile uint64_t *word = (uint64_t *)a->address;
	struct iovec local = { &a->value, sizeof(a->value) };
	struct iovec remote = { a->address, sizeof(a->value) };

	__atomic_store_n(&a->started, true, __ATOMIC_SEQ_CST);
	switch (a->kind) {
	case ACCESS_READ:
		a->value = *word;
		break;
	case ACCESS_WRITE:
		*word = a->operand;
		break;
	case ACCESS_ADD:
		a->value = __atomic_fetch_add(word, a->operand, __ATOMIC_SEQ_CST);
		break;
	case ACCESS_READ_CALL:
		a->error = result(read(pipe_fds[0], a->address, 8));
		break;
	case ACCESS_WRITE_CALL:
		a->error = result(write(pipe_fds[1], a->address, 8));
		break;
	case ACCESS_READV_CALL:
		a->error = result(process_vm_readv(getpid(), &local, 1, &remote, 1, 0));
		break;
	case ACCESS_VMSPLICE:
		a->error = result(vmsplice(pipe_fds[1], &remote, 1, 0));
		break;
	case ACCESS_FUTEX:
		a->error = result(syscall(SYS_futex, a->address, FUTEX_WAIT, 0, NULL, NULL, 0));
		break;
	case ACCESS_MLOCK:
		a->error = result(mlock(a->address, PAGE));
		break;
	case ACCESS_POPULATE_READ:
		a->error = result(madvise(a->address, PAGE, MADV_POPULATE_READ));
		break;
	case ACCESS_POPULATE_WRITE:
		a->error = result(madvise(a->address, PAGE, MADV_POPULATE_WRITE));
		break;
	case ACCESS_IO_URING:
		a->error = io_uring_register_buffer(a->address);
		break;
	}
}

static void *access_run(void *arg)
{
	struct access *a = arg;
	int pipe_fds[2] = { -1, -1 };
	sigjmp_buf env;

	__atomic_store_n(&a->tid, syscall(SYS_gettid), __ATOMIC_SEQ_CST);
	if (!pipe2(pipe_fds, O_CLOEXEC) && a->kind == ACCESS_READ_CALL &&
	    write(pipe_fds[1], &a->operand, 8) != 8)
		a->error = -EIO;
	fault_signal = 0;
	if (!sigsetjmp(env, 1)) {
		fault_catcher = &env;
		access_perform(a, pipe_fds);
	}
	fault_catcher = NULL;
	a->signal = fault_signal;
	if ((a->kind == ACCESS_WRITE_CALL || a->kind == ACCESS_VMSPLICE) && !a->error &&
	    read(pipe_fds[0], &a->value, 8) != 8)
		a->error = -EIO;
	close(pipe_fds[0]);
	close(pipe_fds[1]);
	__atomic_store_n(&a->done, true, __ATOMIC_SEQ_CST);
	return NULL;
}

int access_start(struct access *a, enum access_kind kind, char *address, uint64_t operand)
{
	pthread_attr_t attr;
	int error;

	*a = (struct access){ .kind = kind, .address = address, .operand = operand };
	catch_faults();
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, 128 << 10);
	error = pthread_create(&a->thread, &attr, access_run, a);
	pthread_attr_destroy(&attr);
	return -error;
}

bool thread_sleeps(pid_t pid, pid_t tid)
{
	char path[64], line[512];
	char *state = NULL;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/stat", pid, tid);
	file = fopen(path, "re");
	if (!file)
		return false;
	if (fgets(line, sizeof(line), file))
		state = strrchr(line, ')');
	fclose(file);
	return state && (state[2] == 'S' || state[2] == 'D');
}

bool access_is_done(struct access *a)
{
	return __atomic_load_n(&a->done, __ATOMIC_SEQ_CST);
}

bool access_wait_blocked(struct access *a)
{
	int seen = 0;

	/* A page of the program itself may be read in: that sleeps too, once. */
	return wait_until(__atomic_load_n(&a->started, __ATOMIC_SEQ_CST) &&
			  ((seen = thread_sleeps(getpid(), a->tid) ? seen + 1 : 0) >= 3 ||
			   access_is_done(a))) && !access_is_done(a);
}

bool access_wait_done(struct access *a)
{
	if (!wait_until(access_is_done(a)))
		return false;
	pthread_join(a->thread, NULL);
	return true;
}

bool wait_requests(struct region *r, uint64_t nr)
{
	struct postcopy_region_info info;

	return wait_until(!region_info(r, &info) && info.out_nr_requests == nr);
}

bool wait_faults(struct region *r, uint64_t nr)
{
	struct postcopy_region_info info;

	return wait_until(!region_info(r, &info) && info.out_total_faults >= nr);
}

pid_t fork_child(void)
{
	pid_t pid = fork();

	if (!pid)
		prctl(PR_SET_PDEATHSIG, SIGKILL);
	return pid;
}

int wait_child(pid_t pid, int *status)
{
	pid_t ret = 0;

	wait_until((ret = waitpid(pid, status, WNOHANG)) != 0);
	return ret == pid ? 0 : -ETIMEDOUT;
}

/* Files of /proc and /sys */

bool has_huge_pages(void)
{
	return !access("/sys/kernel/mm/transparent_hugepage", F_OK);
}

bool shmem_folios(const char *word)
{
	if (!has_huge_pages())
		return !strcmp(word, "never");
	return !file_write("/sys/kernel/mm/transparent_hugepage/shmem_enabled", word);
}

int memory_collapse(void *address)
{
	int error = 0;

	(void)wait_until(!(error = result(madvise(address, HUGE, MADV_COLLAPSE))) ||
			 error == -EINVAL);
	return error;
}

long smaps_kb(pid_t pid, const void *address, const char *name)
{
	unsigned long start, end;
	char path[64], line[512];
	bool here = false;
	long value = -1;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/smaps", pid);
	file = fopen(path, "re");
	if (!file)
		return -1;
	while (fgets(line, sizeof(line), file)) {
		if (isxdigit(line[0]) && !isupper(line[0]) &&
		    sscanf(line, "%lx-%lx ", &start, &end) == 2)
			here = (uintptr_t)address >= start && (uintptr_t)address < end;
		else if (here && !strncmp(line, name, strlen(name)) && line[strlen(name)] == ':') {
			value = atol(line + strlen(name) + 1);
			break;
		}
	}
	fclose(file);
	return value;
}

int file_write(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	int error = 0;

	if (fd < 0)
		return -errno;
	if (write(fd, text, strlen(text)) < 0)
		error = -errno;
	close(fd);
	return error;
}

long file_number(const char *path)
{
	FILE *file = fopen(path, "re");
	long value = -1;

	if (!file)
		return -1;
	if (fscanf(file, "%ld", &value) != 1)
		value = -1;
	fclose(file);
	return value;
}

#define CGROUPS "/sys/fs/cgroup/"

static const char *cgroup_path(char path[128], const char *name, const char *file)
{
	snprintf(path, 128, CGROUPS "postcopy_%s/%s", name, file);
	return path;
}

int cgroup_make(const char *name)
{
	char path[128];

	file_write(CGROUPS "cgroup.subtree_control", "+memory");
	return mkdir(cgroup_path(path, name, ""), 0755) && errno != EEXIST ? -errno : 0;
}

int cgroup_write(const char *name, const char *file, const char *text)
{
	char path[128];

	return file_write(cgroup_path(path, name, file), text);
}

int cgroup_read(const char *name, const char *file, char *text, size_t size)
{
	char path[128];
	int fd = open(cgroup_path(path, name, file), O_RDONLY | O_CLOEXEC);
	ssize_t got;

	if (fd < 0)
		return -errno;
	got = read(fd, text, size - 1);
	text[got < 0 ? 0 : got] = '\0';
	close(fd);
	return got < 0 ? -EIO : 0;
}

long cgroup_memory(const char *name)
{
	char path[128];

	return file_number(cgroup_path(path, name, "memory.current"));
}

int cgroup_enter(const char *name)
{
	return name ? cgroup_write(name, "cgroup.procs", "0") :
		      file_write(CGROUPS "cgroup.procs", "0");
}

bool cgroup_remove(const char *name)
{
	char path[128];

	cgroup_path(path, name, "");
	return wait_until(rmdir(path) == 0);
}
