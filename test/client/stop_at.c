/*
 * Preloaded into iotmq archive: ends or stops it at a call of the file system, and notes what it
 * brings to disk.
 *
 *   KILL_AT_RENAME=1      ends it by SIGKILL once a file has its name
 *   HOLD_AT_OPEN=FILE     before it makes a file to be renamed, makes FILE.held and waits for FILE.go
 *   NOTE_FSYNC=FILE       each file or folder that it brings to disk is a line of FILE
 */

#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int
real_open(const char *path, int flags, mode_t mode)
{
	int			(*call) (const char *, int,...) = (int (*) (const char *, int,...)) dlsym(RTLD_NEXT, "open");

	return call(path, flags, mode);
}

static void
hold(const char *name)
{
	char		path[4096];

	snprintf(path, sizeof(path), "%s.held", name);
	close(real_open(path, O_WRONLY | O_CREAT, 0600));
	snprintf(path, sizeof(path), "%s.go", name);
	while (access(path, F_OK) != 0)
		usleep(10000);
}

int
open(const char *path, int flags,...)
{
	const char *name = getenv("HOLD_AT_OPEN");
	mode_t		mode = 0;

	if (flags & O_CREAT)
	{
		va_list		arguments;

		va_start(arguments, flags);
		mode = va_arg(arguments, mode_t);
		va_end(arguments);
		if (name && strstr(path, ".part"))
			hold(name);
	}
	return real_open(path, flags, mode);
}

int
rename(const char *from, const char *to)
{
	int			(*call) (const char *, const char *) = (int (*) (const char *, const char *)) dlsym(RTLD_NEXT, "rename");
	int			result = call(from, to);

	if (getenv("KILL_AT_RENAME"))
		raise(SIGKILL);
	return result;
}

int
fsync(int fd)
{
	int			(*call) (int) = (int (*) (int)) dlsym(RTLD_NEXT, "fsync");
	const char *name = getenv("NOTE_FSYNC");
	char		link[64];
	char		path[4096];
	ssize_t		length;
	FILE	   *file;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	length = readlink(link, path, sizeof(path));
	file = name && length > 0 ? fopen(name, "a") : NULL;
	if (file)
	{
		fprintf(file, "%.*s\n", (int) length, path);
		fclose(file);
	}
	return call(fd);
}
