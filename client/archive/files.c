/*
 * Objects as files.
 *
 * A file is written under a name that begins with a dot, brought to disk, renamed, and the
 * folder is brought to disk: after a crash it is there as a whole, or not.
 *
 * What a look finds may be the last work of a program that was killed before its folder was on
 * disk.  The group moves behind it, so the look brings it there.
 *
 * A program may go on to write when its session, and with it its lock, is lost, until it notices.
 * So a look and a write exclude each other by a lock on the folder, and who has that
 * for a write asks the database once more whether it may: see object.c.
 */

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "memory.h"
#include "store.h"

#define UNFINISHED ".part"

typedef struct Files
{
	Store		store;
	char	   *folder;
	int			lock;			/* a folder that is locked for a write; -1: none */
} Files;

static char *
join(const char *folder, const char *name)
{
	char	   *path;

	if (asprintf(&path, "%s/%s", folder, name) < 0)
		abort();
	return path;
}

static IotmqTrouble
fail(Files *files, const char *path)
{
	store_fail(&files->store, "%s: %s", path, strerror(errno));
	return IOTMQ_REFUSED;
}

static bool
ends_with(const char *name, const char *ending)
{
	size_t		length = strlen(name);

	return length >= strlen(ending) && strcmp(name + length - strlen(ending), ending) == 0;
}

/*
 * The lock is over when the descriptor is closed.  Where the file system has none of folders, as
 * NFS, that of the session is all there is.
 */
static IotmqTrouble
lock_folder(Files *files, int fd, const char *path)
{
	if (flock(fd, LOCK_EX | LOCK_NB) == 0 || errno == EBADF || errno == EINVAL || errno == ENOLCK || errno == ENOTSUP)
		return IOTMQ_FINE;
	if (errno != EWOULDBLOCK)
		return fail(files, path);
	store_fail(&files->store, "%s: another program is using it", path);
	return IOTMQ_AGAIN;
}

static bool
sync_folder(const char *path)
{
	int			fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	bool		done = fd >= 0 && fsync(fd) == 0;

	if (fd >= 0)
		close(fd);
	return done;
}

/* A folder of the store, and those of the store that it is in */
static IotmqTrouble
sync_found(Files *files, const char *path)
{
	size_t		length = strlen(path);
	IotmqTrouble trouble = IOTMQ_FINE;

	while (trouble == IOTMQ_FINE && length > 0 && length >= strlen(files->folder))
	{
		char	   *folder = iotmq_copy(path);

		folder[length] = 0;
		if (!sync_folder(folder))
			trouble = fail(files, folder);
		free(folder);
		do
			length--;
		while (length > 0 && path[length] != '/');
	}
	return trouble;
}

/* Reads the whole folder, and clears away what was not finished. */
static IotmqTrouble
files_list(Store *store, const char *folder, int64_t from, Ranges *ranges)
{
	Files	   *files = (Files *) store;
	char	   *path = join(files->folder, folder);
	DIR		   *open_folder = opendir(path);
	IotmqTrouble trouble = IOTMQ_FINE;
	struct dirent *entry;
	Range		range;

	if (!open_folder && errno != ENOENT)
		trouble = fail(files, path);
	if (open_folder)
		trouble = lock_folder(files, dirfd(open_folder), path);
	while (open_folder && trouble == IOTMQ_FINE && (errno = 0, entry = readdir(open_folder)) != NULL)
	{
		if (object_range(entry->d_name, strlen(entry->d_name), &range) && range.last >= from)
			ranges_add(ranges, range);
		if (entry->d_name[0] == '.' && ends_with(entry->d_name, UNFINISHED))
			unlinkat(dirfd(open_folder), entry->d_name, 0);	/* a leftover does no harm */
	}
	if (open_folder && trouble == IOTMQ_FINE && errno != 0)
		trouble = fail(files, path);
	if (open_folder && trouble == IOTMQ_FINE)
		trouble = sync_found(files, path);
	if (open_folder)
		closedir(open_folder);
	free(path);
	return trouble;
}

/* Makes a folder and those above it; each is on disk before something is in it. */
static bool
make_folder(char *path)
{
	char	   *slash;
	bool		done;

	if (mkdir(path, 0777) == 0)
		done = true;
	else if (errno == EEXIST)
		return true;
	else if (errno != ENOENT || (slash = strrchr(path, '/')) == NULL || slash == path)
		return false;
	else
	{
		*slash = 0;
		done = make_folder(path);
		*slash = '/';
		done = done && (mkdir(path, 0777) == 0 || errno == EEXIST);
	}
	if (!done)
		return false;
	slash = strrchr(path, '/');
	if (!slash)
		return sync_folder(".");
	if (slash == path)
		return sync_folder("/");
	*slash = 0;
	done = sync_folder(path);
	*slash = '/';
	return done;
}

static bool
write_file(const char *path, const char *bytes, size_t length)
{
	int			fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
	bool		done = fd >= 0;

	while (done && length > 0)
	{
		ssize_t		written = write(fd, bytes, length);

		if (written < 0 && errno == EINTR)
			continue;
		done = written > 0;
		if (done)
		{
			bytes += written;
			length -= (size_t) written;
		}
	}
	done = done && fsync(fd) == 0;
	if (fd >= 0)
		done = close(fd) == 0 && done;
	return done;
}

static IotmqTrouble
files_lock(Store *store, const char *folder)
{
	Files	   *files = (Files *) store;
	char	   *path = join(files->folder, folder);
	IotmqTrouble trouble = IOTMQ_FINE;

	if (make_folder(path))
		files->lock = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	trouble = files->lock >= 0 ? lock_folder(files, files->lock, path) : fail(files, path);
	if (trouble != IOTMQ_FINE)
		store->unlock(store);
	free(path);
	return trouble;
}

static void
files_unlock(Store *store)
{
	Files	   *files = (Files *) store;

	if (files->lock >= 0)
		close(files->lock);
	files->lock = -1;
}

static IotmqTrouble
files_put(Store *store, const char *folder, const char *name, const char *bytes, size_t length)
{
	Files	   *files = (Files *) store;
	char	   *parent = join(files->folder, folder);
	char	   *path = join(parent, name);
	char	   *unfinished;
	IotmqTrouble trouble = IOTMQ_FINE;

	if (asprintf(&unfinished, "%s/.%s" UNFINISHED, parent, name) < 0)
		abort();
	if (!write_file(unfinished, bytes, length))
		trouble = fail(files, unfinished);
	else if (rename(unfinished, path) != 0)
		trouble = fail(files, path);
	else if (!sync_folder(parent))
		trouble = fail(files, parent);
	free(unfinished);
	free(path);
	free(parent);
	return trouble;
}

static void
files_close(Store *store)
{
	Files	   *files = (Files *) store;

	free(files->folder);
	free(files);
}

/* It needn't exist. */
Store *
files_open(const char *folder)
{
	Files	   *files = iotmq_allocate(sizeof(Files));
	size_t		length;

	files->folder = iotmq_copy(folder);
	length = strlen(files->folder);
	while (length > 1 && files->folder[length - 1] == '/')
		files->folder[--length] = 0;
	files->lock = -1;
	files->store = (Store)
	{
		.list = files_list,.lock = files_lock,.unlock = files_unlock,.put = files_put,.close = files_close
	};
	return &files->store;
}
