// SPDX-License-Identifier: GPL-2.0
/*
 * Random work against a model of the memory.
 *
 * Several worlds run side by side. A world is a target, which maps a region, private or
 * shared, reads and writes it in several threads and does to its mapping whatever a
 * process may do, and a helper of several threads, which is killed and stopped and
 * followed by another. What a word of a page must be follows from the region, the page
 * and its generation, which a discard raises; the model, in memory that all of them
 * share, has the generations that are possible at the moment:
 *
 *	gen_max		raised before a discard; what is filled from then on
 *	gen_min		raised to it after the discard
 *	drop_gen	the page may be zeros in generations up to this one, since
 *			its owner has dropped it
 *
 * Any other word is an error, and so is a thread that still waits when every page is there.
 *
 * SEED=n repeats the decisions of a run (not what the scheduler makes of them),
 * STRESS_SECONDS=n sets its length.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "postcopy_test.h"

#define NR_WORLDS	3
#define PAGES_MAX	512U
#define WORDS		(PAGE / 8)
#define NR_TOUCHERS	3
#define NR_FILLERS_MAX	3
/* The owner's word in pages that are neither discarded nor dropped */
#define OWN_WORD	(WORDS - 1)

struct page_model {
	atomic_uint gen_min;
	atomic_uint gen_max;
	atomic_uint dropping;	/* MADV_DONTNEED or MADV_REMOVE under way */
	atomic_int drop_gen;
	atomic_bool poisoned;	/* may have been, once */
};

struct world {
	/* Set once. */
	uint64_t seed;
	bool shared;
	bool in_place;		/* shared: the helper writes to a mapping */
	bool memfd;		/* shared: the target's own, full of wrong data */
	bool converts;
	unsigned int nr_pages;
	unsigned int nr_fillers;
	uint64_t offset;
	/* Changes while it runs */
	atomic_ullong region;
	atomic_bool stop;	/* the target's threads must end */
	atomic_bool finish;	/* the helper must fill everything and convert */
	atomic_bool finished;
	atomic_uint errors;
	char message[256];	/* of the first error */
	atomic_ullong checks;
	atomic_uint helpers;
	atomic_uint discards;
	atomic_uint forks;
	struct page_model pages[PAGES_MAX];
};

static struct world *world;

static uint64_t mix(uint64_t x)
{
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
	return x ^ (x >> 31);
}

static unsigned int random_below(uint64_t *state, unsigned int n)
{
	*state += 0x9e3779b97f4a7c15ULL;
	return mix(*state) % n;
}

static bool page_is_written(unsigned int page)
{
	return page % 8 == 7;
}

static bool generation_is_zero(unsigned int page, unsigned int gen)
{
	return !page_is_written(page) && mix(world->seed + page * 1000003ULL + gen) % 4 == 0;
}

static uint64_t word_of(unsigned int page, unsigned int gen, unsigned int word)
{
	if (generation_is_zero(page, gen))
		return 0;
	return mix(world->seed ^ ((uint64_t)page << 40 | (uint64_t)gen << 16 | word)) | 1;
}

static void wrong(const char *format, ...)
{
	char message[256];
	va_list ap;

	va_start(ap, format);
	vsnprintf(message, sizeof(message), format, ap);
	va_end(ap);
	if (atomic_fetch_add(&world->errors, 1) == 0)
		strcpy(world->message, message);
}

/* The target */

static char *memory;
static __thread sigjmp_buf catcher;
static __thread volatile sig_atomic_t catching;

static void on_signal(int sig)
{
	if (!catching)
		_exit(100 + sig);
	siglongjmp(catcher, sig);
}

/* Runs @access on a page. Returns the signal that it raised, or 0. */
#define guarded(access)					\
	({						\
		int __sig = sigsetjmp(catcher, 1);	\
							\
		if (!__sig) {				\
			catching = 1;			\
			access;				\
		}					\
		catching = 0;				\
		__sig;					\
	})

/* Looks at each word of a page. @own: what its last word may be instead. */
static void check_page(const char *who, unsigned int page, const uint64_t *words,
		       unsigned int gen_min, bool zeros_allowed, const uint64_t *own)
{
	struct page_model *model = &world->pages[page];
	unsigned int gen_max = atomic_load(&model->gen_max);
	unsigned int word, gen;

	zeros_allowed |= atomic_load(&model->dropping) ||
			 atomic_load(&model->drop_gen) >= (int)gen_min;
	for (word = 0; word < WORDS; word++) {
		uint64_t value = words[word];

		if (!value && zeros_allowed)
			continue;
		if (word == OWN_WORD && page_is_written(page) && (!own || value == *own))
			continue;
		for (gen = gen_min; gen <= gen_max; gen++)
			if (value == word_of(page, gen, word))
				break;
		if (gen > gen_max) {
			wrong("%s: page %u word %u is 0x%llx, generations %u to %u, drop %d",
			      who, page, word, (unsigned long long)value, gen_min, gen_max,
			      atomic_load(&model->drop_gen));
			return;
		}
	}
	atomic_fetch_add(&world->checks, 1);
}

static int read_page(unsigned int page, uint64_t *words)
{
	return guarded(memcpy(words, memory + page * PAGE, PAGE));
}

/* A signal must have a reason. */
static void check_signal(const char *who, unsigned int page, int sig)
{
	if (sig == SIGSEGV)	/* unmapped or protected just now */
		return;
	if (sig == SIGBUS && atomic_load(&world->pages[page].poisoned))
		return;
	wrong("%s: page %u raised signal %d", who, page, sig);
}

struct toucher {
	pthread_t thread;
	unsigned int number;
	uint64_t random;
	uint64_t own[PAGES_MAX];	/* last value written, 0: none */
};

static void touch_read(struct toucher *t, const char *who, unsigned int page)
{
	struct page_model *model = &world->pages[page];
	unsigned int gen_min = atomic_load(&model->gen_min);
	bool dropping = atomic_load(&model->dropping);
	uint64_t words[WORDS];
	int sig = read_page(page, words);

	if (sig) {
		check_signal(who, page, sig);
		return;
	}
	check_page(who, page, words, gen_min, dropping,
		   t && page / 8 % NR_TOUCHERS == t->number && t->own[page] ?
		   &t->own[page] : NULL);
}

/* Only this thread writes to the page, so no store may be lost. */
static void touch_write(struct toucher *t, unsigned int page)
{
	volatile uint64_t *word = (uint64_t *)(memory + page * PAGE) + OWN_WORD;
	volatile uint64_t old = 0;
	uint64_t value = ((uint64_t)random_below(&t->random, 1U << 31) << 8) | 2;
	int sig = guarded((old = *word, *word = value));
	uint64_t expected = t->own[page] ?: word_of(page, 0, OWN_WORD);

	if (!sig) {
		t->own[page] = value;
	} else {
		check_signal("writer", page, sig);
		/* Read, and then not allowed to write: nothing was stored. */
		if (!old)
			return;
	}
	if (old != expected)
		wrong("writer: page %u had 0x%llx, not 0x%llx", page, (unsigned long long)old,
		      (unsigned long long)expected);
}

static void *toucher_run(void *arg)
{
	struct toucher *t = arg;
	unsigned int page;

	while (!atomic_load(&world->stop)) {
		page = random_below(&t->random, world->nr_pages);
		if (random_below(&t->random, 3)) {
			touch_read(t, "reader", page);
			continue;
		}
		page = page / 8 * 8 + 7;
		if (page < world->nr_pages && page / 8 % NR_TOUCHERS == t->number)
			touch_write(t, page);
	}
	return NULL;
}

static void chaos_drop(uint64_t *random, unsigned int page)
{
	struct page_model *model = &world->pages[page];
	int gen, old;

	if (page_is_written(page))
		return;
	atomic_fetch_add(&model->dropping, 1);
	madvise(memory + page * PAGE, PAGE,
		!world->shared || random_below(random, 2) || world->in_place ?
		MADV_DONTNEED : MADV_REMOVE);
	gen = atomic_load(&model->gen_max);
	old = atomic_load(&model->drop_gen);
	while (old < gen && !atomic_compare_exchange_weak(&model->drop_gen, &old, gen))
		;
	atomic_fetch_sub(&model->dropping, 1);
}

/* The child looks at everything: right, or SIGBUS, or (shared) it waits. */
static void chaos_fork(uint64_t *random)
{
	unsigned int page, gen_min;
	uint64_t words[WORDS];
	int status = 0, sig, i;
	pid_t pid;

	atomic_fetch_add(&world->forks, 1);
	pid = fork();
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (page = 0; page < world->nr_pages; page++) {
			/* A private child has the page as it was at any time before. */
			gen_min = world->shared ? atomic_load(&world->pages[page].gen_min) : 0;
			sig = read_page(page, words);
			if (!sig)
				check_page("child", page, words, gen_min,
					   !world->shared &&
					   atomic_load(&world->pages[page].drop_gen) >= 0, NULL);
			else if (sig != SIGBUS && sig != SIGSEGV)
				wrong("child: page %u raised signal %d", page, sig);
		}
		_exit(0);
	}
	if (pid < 0)
		return;
	for (i = 0; i < 200 && !waitpid(pid, &status, WNOHANG); i++)
		pause_ms(1 + random_below(random, 3));
	if (i < 200) {
		if (WIFSIGNALED(status))
			wrong("child: ended by signal %d", WTERMSIG(status));
		return;
	}
	kill(pid, SIGKILL);
	waitpid(pid, &status, 0);
}

static void chaos_move(unsigned int page)
{
	char *here = memory + page * PAGE, *there;

	there = mremap(here, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED,
		       (char *)memory + (2 * PAGES_MAX + page) * PAGE);
	if (!world->shared) {
		/* EFAULT: it is unmapped. */
		if (there != MAP_FAILED || (errno != EOPNOTSUPP && errno != EFAULT))
			wrong("mremap of page %u moved it (errno %d)", page, errno);
		return;
	}
	if (there == MAP_FAILED)
		return;
	if (mremap(there, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, here) != here)
		wrong("mremap of page %u back: errno %d", page, errno);
}

static void *chaos_run(void *arg)
{
	uint64_t random = *(uint64_t *)arg;
	unsigned int page, nr, unmapped = 0;
	char *at;

	while (!atomic_load(&world->stop)) {
		page = random_below(&random, world->nr_pages);
		nr = 1 + random_below(&random, 16);
		if (page + nr > world->nr_pages)
			nr = world->nr_pages - page;
		at = memory + page * PAGE;
		switch (random_below(&random, 12)) {
		case 0:
		case 1:
		case 2:
			chaos_drop(&random, page);
			break;
		case 3:
			mprotect(at, nr * PAGE, PROT_NONE);
			mprotect(at, nr * PAGE, PROT_READ | PROT_WRITE);
			break;
		case 4:
			mprotect(at, nr * PAGE, PROT_READ);
			pause_ms(1);
			mprotect(at, nr * PAGE, PROT_READ | PROT_WRITE);
			break;
		case 5:
			chaos_fork(&random);
			break;
		case 6:
			chaos_move(page);
			break;
		case 7:
			/* From the end, now and then, never all */
			if (unmapped < world->nr_pages / 8 && !random_below(&random, 4)) {
				unmapped++;
				munmap(memory + (world->nr_pages - unmapped) * PAGE, PAGE);
			}
			break;
		case 8:
			madvise(at, nr * PAGE, MADV_PAGEOUT);
			break;
		case 9:
			madvise(at, nr * PAGE, random_below(&random, 2) ? MADV_HUGEPAGE :
							       MADV_NOHUGEPAGE);
			madvise(at, nr * PAGE, MADV_COLD);
			break;
		case 10:
			madvise(at, nr * PAGE, MADV_WILLNEED);
			break;
		default:
			pause_ms(1 + random_below(&random, 5));
		}
	}
	return NULL;
}

/* With a page before the region; nobody may read any of these pages. */
static bool lend_memfd(int context)
{
	struct postcopy_context_backing backing = {
		.size = sizeof(backing),
		.offset = world->offset,
		.length = world->nr_pages * PAGE,
		.file_offset = PAGE,
		.fd = memfd_create("ram", MFD_CLOEXEC | MFD_ALLOW_SEALING),
	};
	char garbage[PAGE];
	unsigned int i;

	memset(garbage, 0x5a, PAGE);
	for (i = 0; i < world->nr_pages + 1; i++)
		if (write(backing.fd, garbage, PAGE) != PAGE)
			return false;
	if (fcntl(backing.fd, F_ADD_SEALS, F_SEAL_SHRINK) ||
	    ioctl(context, POSTCOPY_CONTEXT_BACKING, &backing))
		return false;
	close(backing.fd);
	return true;
}

static int target_run(void)
{
	static struct toucher touchers[NR_TOUCHERS];
	struct sigaction action = { .sa_handler = on_signal, .sa_flags = SA_NODEFER };
	size_t length = world->nr_pages * PAGE;
	uint64_t random = mix(world->seed + 1);
	unsigned int i;
	pthread_t chaos;
	uint64_t id;
	int context;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	/* The children it forks are killed with it. */
	setpgid(0, 0);
	sigaction(SIGSEGV, &action, NULL);
	sigaction(SIGBUS, &action, NULL);
	context = open(POSTCOPY_DEVICE, O_RDWR | O_CLOEXEC);
	if (world->memfd && !lend_memfd(context))
		return 1;
	/* With room behind it for pages that move. */
	memory = mmap(NULL, 4 * PAGES_MAX * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS |
		      MAP_NORESERVE, -1, 0);
	if (context < 0 || memory == MAP_FAILED ||
	    mmap(memory, length, PROT_READ | PROT_WRITE,
		 MAP_FIXED | (world->shared ? MAP_SHARED : MAP_PRIVATE), context,
		 world->offset) != memory)
		return 1;
	id = region_find(context, getpid(), memory);
	if (!id)
		return 2;
	atomic_store(&world->region, id);
	for (i = 0; i < NR_TOUCHERS; i++) {
		touchers[i].number = i;
		touchers[i].random = mix(world->seed + 10 + i);
		if (pthread_create(&touchers[i].thread, NULL, toucher_run, &touchers[i]))
			return 3;
	}
	if (pthread_create(&chaos, NULL, chaos_run, &random))
		return 3;
	pthread_join(chaos, NULL);
	for (i = 0; i < NR_TOUCHERS; i++)
		pthread_join(touchers[i].thread, NULL);
	while (!atomic_load(&world->finished))
		pause_ms(1);
	/* Everything is there, and ordinary memory if it was converted. */
	for (i = 0; i < world->nr_pages; i++)
		touch_read(&touchers[i / 8 % NR_TOUCHERS], "in the end", i);
	return 0;
}

/* The helper */

static struct region served;
static char *served_memory;
/* Fills read a page's generation and fill it; a discard changes it. */
static pthread_rwlock_t generations = PTHREAD_RWLOCK_INITIALIZER;

static int helper_ranges(unsigned long cmd, const struct postcopy_range *ranges, unsigned int nr)
{
	struct postcopy_pages_zero argument = {
		.size = sizeof(argument),
		.ranges = (uintptr_t)ranges,
		.nr_ranges = nr,
	};

	return ioctl(served.helper, cmd, &argument) ? -errno : 0;
}

static struct postcopy_range range_of(unsigned int page, unsigned int nr)
{
	return (struct postcopy_range){
		.offset = world->offset + page * PAGE,
		.length = nr * PAGE,
	};
}

static int helper_deliver(unsigned int page)
{
	struct postcopy_range range = range_of(page, 1);
	struct postcopy_pages_fill fill;
	uint64_t words[WORDS], *to = words;
	unsigned int gen, i;
	int error = 0;

	pthread_rwlock_rdlock(&generations);
	gen = atomic_load(&world->pages[page].gen_max);
	if (generation_is_zero(page, gen)) {
		error = helper_ranges(POSTCOPY_PAGES_ZERO, &range, 1);
		goto out;
	}
	if (served_memory) {
		error = page_is_present(&served, page);
		if (error) {
			error = error < 0 ? error : 0;
			goto out;
		}
		to = (uint64_t *)(served_memory + page * PAGE);
	}
	for (i = 0; i < WORDS; i++)
		to[i] = word_of(page, gen, i);
	if (served_memory)
		error = helper_ranges(POSTCOPY_PAGES_PRESENT, &range, 1);
	else
		error = pages_fill_raw(served.helper, range.offset, PAGE, words, &fill);
out:
	pthread_rwlock_unlock(&generations);
	return error;
}

static void helper_discard(uint64_t *random)
{
	struct postcopy_range ranges[8];
	unsigned int pages[8];
	unsigned int i, nr = 1 + random_below(random, 8);

	pthread_rwlock_wrlock(&generations);
	if (atomic_load(&world->finish))
		goto out;
	for (i = 0; i < nr; i++) {
		do {
			pages[i] = random_below(random, world->nr_pages);
		} while (page_is_written(pages[i]));
		ranges[i] = range_of(pages[i], 1);
		atomic_fetch_add(&world->pages[pages[i]].gen_max, 1);
	}
	if (helper_ranges(POSTCOPY_PAGES_DISCARD, ranges, nr))
		goto out;
	atomic_fetch_add(&world->discards, 1);
	for (i = 0; i < nr; i++)
		atomic_store(&world->pages[pages[i]].gen_min,
			     atomic_load(&world->pages[pages[i]].gen_max));
out:
	pthread_rwlock_unlock(&generations);
}

static void helper_poison(uint64_t *random)
{
	unsigned int page = random_below(random, world->nr_pages);
	struct postcopy_range range = range_of(page, 1);

	if (page % 16 != 5 || atomic_load(&world->finish))
		return;
	atomic_store(&world->pages[page].poisoned, true);
	helper_ranges(POSTCOPY_PAGES_POISON, &range, 1);
}

/* Only an error that says that the region has ended may end the helper. */
static bool helper_goes_on(int error)
{
	if (!error || error == -EAGAIN || error == -EINTR)
		return true;
	if (error != -ESRCH && error != -EALREADY && error != -ENOMEM)
		wrong("helper: error %d", error);
	return error == -ENOMEM;
}

static void *filler_run(void *arg)
{
	struct pollfd poll_fd = { .fd = served.helper, .events = POLLIN };
	struct postcopy_request requests[8];
	uint64_t random = (uintptr_t)arg;
	int i, n, error = 0;

	while (helper_goes_on(error) && !atomic_load(&world->finish)) {
		poll(&poll_fd, 1, 5);
		if (poll_fd.revents & POLLHUP)
			break;
		n = read(served.helper, requests, sizeof(requests));
		n = n < 0 ? 0 : n / (int)sizeof(requests[0]);
		for (i = 0; i < n && helper_goes_on(error); i++) {
			/* Some stay for the next helper, or for the background. */
			if (random_below(&random, 20))
				error = helper_deliver((requests[i].offset - world->offset) / PAGE);
		}
		for (i = random_below(&random, 6); i > 0 && helper_goes_on(error); i--)
			error = helper_deliver(random_below(&random, world->nr_pages));
		if (!random_below(&random, 3))
			helper_discard(&random);
		if (!random_below(&random, 4))
			helper_poison(&random);
	}
	return NULL;
}

static int helper_finish(void)
{
	unsigned int page;
	int error = 0;

	for (page = 0; page < world->nr_pages; page++) {
		do {
			error = helper_deliver(page);
		} while (error == -EINTR || error == -ENOMEM);
		if (error)
			break;
	}
	if (!error && world->converts) {
		do {
			error = region_convert(&served, 0, NULL);
		} while (error == -EINTR);
	}
	if (error && error != -ESRCH && error != -EALREADY)
		wrong("the last helper: error %d at page %u", error, page);
	atomic_store(&world->finished, true);
	return 0;
}

static int helper_run(uint64_t seed)
{
	pthread_t threads[NR_FILLERS_MAX];
	unsigned int i;
	int error;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	served.context = open(POSTCOPY_DEVICE, O_RDWR | O_CLOEXEC);
	served.helper = -1;
	served.offset = world->offset;
	served.length = world->nr_pages * PAGE;
	served.id = atomic_load(&world->region);
	/* The one before may still be on its way out, with a call under way. */
	while ((error = region_attach(&served)) == -EBUSY)
		pause_ms(1);
	if (error == -ENOENT || error == -ESRCH || error == -EALREADY) {
		if (atomic_load(&world->finish))
			atomic_store(&world->finished, true);
		return 0;
	}
	if (error) {
		wrong("attach: error %d", error);
		return 1;
	}
	fcntl(served.helper, F_SETFL, O_NONBLOCK);
	if (world->in_place) {
		served_memory = mmap(NULL, served.length, PROT_READ | PROT_WRITE, MAP_SHARED,
				     served.helper, served.offset);
		if (served_memory == MAP_FAILED)
			return 1;
	}
	for (i = 0; i < world->nr_fillers; i++)
		if (pthread_create(&threads[i], NULL, filler_run,
				   (void *)(uintptr_t)mix(seed + i)))
			return 1;
	for (i = 0; i < world->nr_fillers; i++)
		pthread_join(threads[i], NULL);
	if (atomic_load(&world->finish))
		return helper_finish();
	return 0;
}

/* A world */

static pid_t helper_start(uint64_t seed)
{
	pid_t pid = fork();

	if (!pid)
		_exit(helper_run(seed));
	atomic_fetch_add(&world->helpers, 1);
	return pid;
}

static void helper_end(pid_t pid)
{
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

/* 0: it has ended by itself. The status is wrong unless it is 0. */
static bool ends_in_time(pid_t pid, const char *who)
{
	uint64_t end = now_ms() + 6 * PATIENCE_MS;
	int status = 0;

	while (now_ms() < end) {
		if (waitpid(pid, &status, WNOHANG) == pid) {
			if (status)
				wrong("%s: status 0x%x", who, status);
			return true;
		}
		pause_ms(2);
	}
	wrong("%s still runs although every page is there", who);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	return false;
}

static void world_run(uint64_t seed)
{
	uint64_t random = mix(seed), end;
	bool kills_target;
	pid_t target, helper;

	memset(world, 0, sizeof(*world));
	world->seed = seed;
	world->shared = random_below(&random, 2);
	world->in_place = world->shared && random_below(&random, 2);
	world->converts = random_below(&random, 3);
	world->nr_pages = 64 + random_below(&random, PAGES_MAX - 64);
	world->nr_fillers = world->in_place ? 1 : 1 + random_below(&random, NR_FILLERS_MAX);
	world->offset = (uint64_t)random_below(&random, 1000) * HUGE;
	kills_target = !random_below(&random, 5);
	world->memfd = world->shared && random_below(&random, 2);
	for (unsigned int i = 0; i < PAGES_MAX; i++)
		atomic_store(&world->pages[i].drop_gen, -1);

	target = fork();
	if (!target)
		_exit(target_run());
	if (!wait_until(atomic_load(&world->region))) {
		wrong("the target does not map");
		helper_end(target);
		return;
	}
	helper = helper_start(mix(seed + 100));
	end = now_ms() + 500 + random_below(&random, 2500);
	while (now_ms() < end) {
		pause_ms(10 + random_below(&random, 150));
		switch (random_below(&random, 5)) {
		case 0:
			helper_end(helper);
			pause_ms(random_below(&random, 20));
			helper = helper_start(mix(random));
			break;
		case 1:
			kill(helper, SIGSTOP);
			pause_ms(random_below(&random, 100));
			kill(helper, SIGCONT);
			break;
		case 2:
			kill(target, SIGSTOP);
			pause_ms(random_below(&random, 30));
			kill(target, SIGCONT);
			break;
		}
	}
	if (kills_target) {
		kill(-target, SIGKILL);
		helper_end(helper);
		/* A surviving child would check its memory against the next world's model. */
		while (waitpid(-1, NULL, 0) > 0)
			;
		return;
	}
	atomic_store(&world->stop, true);
	atomic_store(&world->finish, true);
	/* It may have been killed by now, or have found the region dead. */
	if (!ends_in_time(helper, "the last helper") || !atomic_load(&world->finished)) {
		helper = helper_start(mix(random));
		ends_in_time(helper, "the very last helper");
	}
	ends_in_time(target, "the target");
}

static uint64_t number_of_environment(const char *name, uint64_t otherwise)
{
	const char *value = getenv(name);

	return value && *value ? strtoull(value, NULL, 0) : otherwise;
}

TEST(no_byte_is_wrong_and_nobody_waits_for_ever)
{
	uint64_t seconds = number_of_environment("STRESS_SECONDS", 30);
	uint64_t seed = number_of_environment("SEED", now_ms() ^ (uint64_t)getpid() << 32);
	struct world *worlds = mmap(NULL, NR_WORLDS * sizeof(*worlds), PROT_READ | PROT_WRITE,
				    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	unsigned long long *totals;
	uint64_t end = now_ms() + seconds * 1000;
	unsigned int i, round;
	pid_t pids[NR_WORLDS];
	int status;

	ASSERT_NE(MAP_FAILED, worlds);
	totals = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, totals);
	printf("# SEED=%llu STRESS_SECONDS=%llu\n", (unsigned long long)seed,
	       (unsigned long long)seconds);
	fflush(stdout);
	for (i = 0; i < NR_WORLDS; i++) {
		pids[i] = fork();
		ASSERT_LE(0, pids[i]);
		if (pids[i])
			continue;
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		/* For the children of a target that was killed */
		prctl(PR_SET_CHILD_SUBREAPER, 1);
		world = &worlds[i];
		for (round = 0; now_ms() < end; round++) {
			world_run(mix(seed + i * 1000000ULL + round));
			__atomic_fetch_add(&totals[0], 1, __ATOMIC_RELAXED);
			__atomic_fetch_add(&totals[1], world->checks, __ATOMIC_RELAXED);
			__atomic_fetch_add(&totals[2], world->helpers, __ATOMIC_RELAXED);
			__atomic_fetch_add(&totals[3], world->discards, __ATOMIC_RELAXED);
			__atomic_fetch_add(&totals[4], world->forks, __ATOMIC_RELAXED);
			if (world->errors) {
				printf("# world %u, round %u (%s%s%s, %u pages, seed %llu): %s\n",
				       i, round, world->shared ? "shared" : "private",
				       world->in_place ? " in place" : "",
				       world->memfd ? " in a memfd" : "", world->nr_pages,
				       (unsigned long long)world->seed, world->message);
				fflush(stdout);
				_exit(1);
			}
		}
		_exit(0);
	}
	for (i = 0; i < NR_WORLDS; i++) {
		ASSERT_EQ(pids[i], waitpid(pids[i], &status, 0));
		EXPECT_EQ(0, status);
	}
	printf("# %llu worlds, %llu pages checked, %llu helpers, %llu discards, %llu forks\n",
	       totals[0], totals[1], totals[2], totals[3], totals[4]);
	EXPECT_LT(0, totals[1]);
}

int main(int argc, char **argv)
{
	/* The harness ends a test after 30 s unless told otherwise. */
	uint64_t seconds = number_of_environment("STRESS_SECONDS", 30);

	_no_byte_is_wrong_and_nobody_waits_for_ever_object.timeout = seconds + 180;
	return test_harness_run(argc, argv);
}
