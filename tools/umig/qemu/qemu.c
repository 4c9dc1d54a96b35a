// SPDX-License-Identifier: GPL-2.0
/* What umig wants to know of a QEMU and asks of it, over QMP. */
#define _GNU_SOURCE
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "device/dev.h"
#include "device/find.h"
#include "lib/log.h"
#include "lib/umig.h"
#include "qemu/qemu.h"

static int qemu_get_property(struct qmp *q, const char *id, const char *property, char *value,
			     size_t size)
{
	char path[256];
	json_t *ret;
	int err;

	snprintf(path, sizeof(path), "/objects/%s", id);
	err = qmp_command(q, "qom-get", json_pack("{s:s, s:s}", "path", path, "property",
						  property), &ret);
	if (err)
		return err;
	if (!json_is_string(ret) || json_string_length(ret) >= size)
		err = -EPROTO;
	else
		strcpy(value, json_string_value(ret));
	json_decref(ret);
	return err;
}

static int qemu_base_memory(struct qmp *q, uint64_t *base, uint64_t *plugged)
{
	json_t *ret;
	int err = qmp_command(q, "query-memory-size-summary", NULL, &ret);

	if (err)
		return err;
	*base = (uint64_t)json_integer_value(json_object_get(ret, "base-memory"));
	*plugged = (uint64_t)json_integer_value(json_object_get(ret, "plugged-memory"));
	json_decref(ret);
	return 0;
}

/**
 * qemu_find_ram - the memory backend that holds all of the machine's RAM
 * @side: "source" or "destination", for messages
 *
 * Return: 0; -EOPNOTSUPP the machine has another shape; another -errno. Has said why.
 */
int qemu_find_ram(struct qmp *q, const char *side, struct qemu_ram *ram)
{
	uint64_t base = 0, plugged = 0;
	json_t *list, *dev;
	int ret = qmp_command(q, "query-memdev", NULL, &list);

	memset(ram, 0, sizeof(*ram));
	if (!ret)
		ret = qemu_base_memory(q, &base, &plugged);
	if (ret) {
		log_error("cannot ask the %s QEMU for its memory: %s", side, q->error);
		return ret;
	}
	dev = json_array_get(list, 0);
	if (json_array_size(list) != 1 || plugged) {
		log_error("the %s has %zu memory backends%s; "
			  "umig can move a machine whose RAM is one: -object memory-backend-file,id=r0,... -machine memory-backend=r0",
			  side, json_array_size(list), plugged ? " and hotplugged memory" : "");
		json_decref(list);
		return -EOPNOTSUPP;
	}
	snprintf(ram->id, sizeof(ram->id), "%s",
		 json_string_value(json_object_get(dev, "id")) ?: "");
	ram->size = (uint64_t)json_integer_value(json_object_get(dev, "size"));
	ram->share = json_is_true(json_object_get(dev, "share"));
	ram->prealloc = json_is_true(json_object_get(dev, "prealloc"));
	json_decref(list);
	ret = qemu_get_property(q, ram->id, "type", ram->type, sizeof(ram->type));
	if (!ret && strcmp(ram->type, "memory-backend-file")) {
		log_error("the %s's RAM is a %s; "
			  "umig needs -object memory-backend-file,id=r0,size=...,mem-path=... -machine memory-backend=r0",
			  side, ram->type);
		return -EOPNOTSUPP;
	}
	if (!ret)
		ret = qemu_get_property(q, ram->id, "mem-path", ram->path, sizeof(ram->path));
	if (ret) {
		log_error("cannot ask the %s QEMU about its memory backend '%s': %s", side,
			  ram->id, q->error);
		return ret;
	}
	if (ram->size != base) {
		log_error("the %s's memory backend '%s' has %" PRIu64
			  " bytes but the machine has %" PRIu64 "; "
			  "use it as -machine memory-backend=%s",
			  side, ram->id, ram->size, base, ram->id);
		return -EOPNOTSUPP;
	}
	return 0;
}

/**
 * qemu_check_caps - learn the present values, refuse what cannot work
 * @caps: ends with a NULL name
 */
int qemu_check_caps(struct qmp *q, const char *side, struct qemu_cap *caps)
{
	json_t *list, *item;
	struct qemu_cap *cap;
	size_t i;
	int ret = qmp_command(q, "query-migrate-capabilities", NULL, &list);

	if (ret) {
		log_error("cannot ask the %s QEMU for its migration capabilities: %s", side,
			  q->error);
		return ret;
	}
	for (cap = caps; cap->name; cap++)
		cap->former = -1;
	json_array_foreach(list, i, item) {
		const char *name = json_string_value(json_object_get(item, "capability"));
		bool on = json_is_true(json_object_get(item, "state"));

		if (name && on && !strcmp(name, "postcopy-ram")) {
			log_error("the %s QEMU has postcopy-ram on, which excludes shared memory; "
				  "switch it off: migrate_set_capability postcopy-ram off",
				  side);
			ret = -EOPNOTSUPP;
		}
		for (cap = caps; name && cap->name; cap++) {
			if (!strcmp(cap->name, name))
				cap->former = on;
		}
	}
	json_decref(list);
	for (cap = caps; cap->name && !ret; cap++) {
		if (cap->former < 0 && cap->required) {
			log_error("the %s QEMU lacks the migration capability %s; "
				  "QEMU 4.0 or later is needed",
				  side, cap->name);
			ret = -EOPNOTSUPP;
		}
	}
	return ret;
}

static int qemu_apply_caps(struct qmp *q, const struct qemu_cap *caps, bool restore)
{
	json_t *list = json_array();

	for (; caps->name; caps++) {
		bool value = restore ? caps->former : caps->want;

		if (caps->former < 0 || caps->former == caps->want)
			continue;
		json_array_append_new(list, json_pack("{s:s, s:b}", "capability", caps->name,
						      "state", value));
	}
	if (!json_array_size(list)) {
		json_decref(list);
		return 0;
	}
	return qmp_command(q, "migrate-set-capabilities", json_pack("{s:o}", "capabilities",
								    list), NULL);
}

int qemu_set_caps(struct qmp *q, const struct qemu_cap *caps)
{
	return qemu_apply_caps(q, caps, false);
}

int qemu_restore_caps(struct qmp *q, const struct qemu_cap *caps)
{
	return qemu_apply_caps(q, caps, true);
}

/* Those that have arrived; never waits. Return: 0 or -errno (QEMU is gone). */
int qemu_take_events(struct qmp *q, struct qemu_events *e)
{
	int ret = qmp_pump(q);
	json_t *event;

	while ((event = qmp_next_event(q))) {
		const char *name = json_string_value(json_object_get(event, "event")) ?: "";
		json_t *data = json_object_get(event, "data");

		if (!strcmp(name, "STOP") && !e->stop_ns)
			e->stop_ns = now_ns();
		else if (!strcmp(name, "RESUME"))
			e->runs = true;
		else if (!strcmp(name, "MIGRATION"))
			snprintf(e->migration, sizeof(e->migration), "%s",
				 json_string_value(json_object_get(data, "status")) ?: "");
		json_decref(event);
	}
	return ret;
}

int qemu_run_state(struct qmp *q, char *state, size_t size)
{
	json_t *ret;
	int err = qmp_command(q, "query-status", NULL, &ret);

	if (err)
		return err;
	snprintf(state, size, "%s", json_string_value(json_object_get(ret, "status")) ?: "?");
	json_decref(ret);
	return 0;
}

/* "none" if there has been no migration. */
int qemu_migration_state(struct qmp *q, char *state, size_t size, char *error, size_t error_size)
{
	json_t *ret;
	int err = qmp_command(q, "query-migrate", NULL, &ret);

	if (err)
		return err;
	snprintf(state, size, "%s", json_string_value(json_object_get(ret, "status")) ?: "none");
	snprintf(error, error_size, "%s",
		 json_string_value(json_object_get(ret, "error-desc")) ?: "no reason given");
	json_decref(ret);
	return 0;
}

/*
 * The id of the migration that the destination is in stays with it, as the data of a secret object
 * (which is the one kind of object that is a string and can be read): so who goes on with it after
 * umig was killed can tell its sender from one that was left behind by another guest.
 */
#define ID_OBJECT	"umig-migration"

void qemu_keep_id(struct qmp *q, const char *id)
{
	qemu_forget_id(q);
	qmp_command(q, "object-add", json_pack("{s:s, s:s, s:s}", "qom-type", "secret", "id",
					       ID_OBJECT, "data", id), NULL);
}

/* Empty if there is none. */
void qemu_kept_id(struct qmp *q, char *id, size_t size)
{
	if (qemu_get_property(q, ID_OBJECT, "data", id, size))
		id[0] = '\0';
}

void qemu_forget_id(struct qmp *q)
{
	qmp_command(q, "object-del", json_pack("{s:s}", "id", ID_OBJECT), NULL);
}

bool qemu_migration_is_active(const char *state)
{
	return strcmp(state, "none") && strcmp(state, "completed") && strcmp(state, "failed") &&
		strcmp(state, "cancelled");
}

/* mem-lock=on waits for every page. QMP does not tell, /proc does. */
bool qemu_has_locked_memory(pid_t pid)
{
	unsigned long kib = 0;
	char path[64], line[256];
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
	f = fopen(path, "re");
	if (!f)
		return false;
	while (fgets(line, sizeof(line), f)) {
		if (sscanf(line, "VmLck: %lu kB", &kib) == 1)
			break;
	}
	fclose(f);
	return kib > 0;
}

/*
 * Is the file at @path the one process @pid has mapped? It may have been replaced since, or the
 * path may mean something else in QEMU's mount namespace. True if /proc does not let us look.
 */
bool qemu_maps_file(pid_t pid, const char *path)
{
	unsigned int maj, min;
	unsigned long inode;
	char maps[64], line[4352];
	bool found = false;
	struct stat st;
	FILE *f;

	if (stat(path, &st))
		return false;
	snprintf(maps, sizeof(maps), "/proc/%d/maps", (int)pid);
	f = fopen(maps, "re");
	if (!f)
		return true;
	while (!found && fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%*s %*s %*s %x:%x %lu", &maj, &min, &inode) == 3)
			found = inode == st.st_ino && maj == major(st.st_dev) &&
				min == minor(st.st_dev);
	}
	fclose(f);
	return found;
}

/* The link that /proc keeps for the mapping of what was a shared region. Return: 0 or -ENOENT. */
static int qemu_find_backing(pid_t pid, uint64_t size, char *path, size_t path_size)
{
	char maps[64], line[4352];
	int ret = -ENOENT;
	FILE *f;

	snprintf(maps, sizeof(maps), "/proc/%d/maps", (int)pid);
	f = fopen(maps, "re");
	if (!f)
		return -errno;
	while (ret && fgets(line, sizeof(line), f)) {
		uint64_t start, end, offset;
		char name[64], shared;
		struct stat st;

		if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %*3c%c %" SCNx64 " %*s %*s %63[^\n]",
			   &start, &end, &shared, &offset, name) != 5 ||
		    shared != 's' || offset || strcmp(name, "/postcopy (deleted)"))
			continue;
		snprintf(path, path_size, "/proc/%d/map_files/%" PRIx64 "-%" PRIx64, (int)pid,
			 start, end);
		if (stat(path, &st))
			ret = -errno;
		else if ((uint64_t)st.st_size == size)
			ret = 0;
	}
	fclose(f);
	return ret;
}

/**
 * qemu_find_arrived - where RAM can be read that came by postcopy into a shared region
 * @ram: has @path /dev/postcopy; gets the path of the file that has its contents
 *
 * Only once it is plain shared memory: before, what is missing would read as zeros there.
 *
 * Return: 0 or -EOPNOTSUPP, having said why.
 */
int qemu_find_arrived(pid_t pid, struct qemu_ram *ram)
{
	int context = dev_open(), ret;
	uint64_t *ids = NULL;
	size_t nr = 0;

	/* With no module there are no regions. */
	ret = context < 0 ? context : find_regions(context, pid, &ids, &nr);
	free(ids);
	if (context >= 0)
		close(context);
	if (ret && ret != -ENOENT) {
		log_error("cannot ask whether the source's RAM has arrived: %s: %s", dev_path(),
			  strerror(-ret));
		return -EOPNOTSUPP;
	}
	if (nr) {
		log_error("the source's RAM is still arriving (see 'umig list'); "
			  "try again when that has ended");
		return -EOPNOTSUPP;
	}
	ret = qemu_find_backing(pid, ram->size, ram->path, sizeof(ram->path));
	if (!ret)
		return 0;
	log_error("the source's RAM came by postcopy; "
		  "it cannot be read through /proc/%d/map_files: %s%s", (int)pid, strerror(-ret),
		  ret == -EPERM || ret == -EACCES ? "; run umig as root" : "");
	return -EOPNOTSUPP;
}
