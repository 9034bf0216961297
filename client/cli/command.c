/*
 * A shell command for one message, one at a time.  It reads the message and writes its errors
 * in memory, so that nothing waits for a pipe; its end is seen by a pidfd.
 */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <unistd.h>

#include "command.h"
#include "memory.h"
#include "verb.h"

#define LONGEST_REASON 1024		/* bytes, as the server keeps */

static pid_t child;
static int	child_fd = -1;
static int	errors = -1;

static bool
write_all(int fd, const void *bytes, size_t length)
{
	const char *at = bytes;

	while (length > 0)
	{
		ssize_t		written = write(fd, at, length);

		if (written < 0)
			return false;
		at += written;
		length -= (size_t) written;
	}
	return true;
}

/* A file in memory that holds the message's content; -1: there is none */
static int
input_of(const IotmqMessage *message)
{
	int			fd = memfd_create("message", MFD_CLOEXEC);
	size_t		length;
	unsigned char *bytes;
	bool		good;

	if (fd < 0)
		return -1;
	if (message->payload)
		good = write_all(fd, message->payload, strlen(message->payload));
	else
	{
		bytes = PQunescapeBytea((const unsigned char *) message->body, &length);
		good = bytes && write_all(fd, bytes, length);
		PQfreemem(bytes);
	}
	if (good && lseek(fd, 0, SEEK_SET) == 0)
		return fd;
	close(fd);
	return -1;
}

static void
set_or_unset(const char *name, const char *value)
{
	if (value)
		setenv(name, value, 1);
	else
		unsetenv(name);
}

/* In the child: a process group of its own, since Ctrl-C is for this program. */
static void
become(const char *command, const char *topic, const IotmqBatch *batch, const IotmqMessage *message, int input)
{
	char		attempt[16];

	snprintf(attempt, sizeof(attempt), "%d", message->attempt);
	set_or_unset("IOTMQ_TOPIC", topic);
	set_or_unset("IOTMQ_ZONE", batch->zone);
	set_or_unset("IOTMQ_OFFSET", message->offset);
	set_or_unset("IOTMQ_DEVICE", message->device_id);
	set_or_unset("IOTMQ_TAG", message->tag);
	set_or_unset("IOTMQ_KEY", message->message_key);
	set_or_unset("IOTMQ_ATTEMPT", attempt);
	setpgid(0, 0);
	stop_not_in_child();
	if (dup2(input, STDIN_FILENO) >= 0 && dup2(errors, STDERR_FILENO) >= 0)
		execl("/bin/sh", "sh", "-c", command, (char *) NULL);
	_exit(EX_OSERR);
}

/*
 * false: no process can be made, which was complained about.
 */
bool
command_start(const char *command, const char *topic, const IotmqBatch *batch, const IotmqMessage *message)
{
	int			input = input_of(message);

	errors = memfd_create("errors", MFD_CLOEXEC);
	fflush(stdout);
	child = input >= 0 && errors >= 0 ? fork() : -1;
	if (child == 0)
		become(command, topic, batch, message, input);
	if (child > 0)
		child_fd = pidfd_open(child, 0);
	if (input >= 0)
		close(input);
	if (child > 0 && child_fd >= 0)
		return true;
	complain("can't run a command: %s", strerror(errno));
	return false;
}

/* Can be read from when the command has ended. */
int
command_fd(void)
{
	return child_fd;
}

/* The first line that it wrote to standard error, or its exit status. */
static char *
reason_of(int status)
{
	char	   *text = iotmq_allocate(LONGEST_REASON + 1);
	ssize_t		length = pread(errors, text, LONGEST_REASON, 0);

	text[length > 0 ? length : 0] = 0;
	text[strcspn(text, "\n")] = 0;
	if (!*text && WIFSIGNALED(status))
		snprintf(text, LONGEST_REASON, "the command was killed by signal %d", WTERMSIG(status));
	else if (!*text)
		snprintf(text, LONGEST_REASON, "the command ended with status %d", WEXITSTATUS(status));
	return text;
}

/*
 * Whether it has ended, and what that means for its message.  reason: to be freed; NULL
 * after an ack.
 */
bool
command_ended(IotmqFate *fate, char **reason)
{
	int			status;

	if (waitpid(child, &status, WNOHANG) != child)
		return false;
	*fate = WIFEXITED(status) && WEXITSTATUS(status) == 0 ? IOTMQ_ACK :
		WIFEXITED(status) && WEXITSTATUS(status) == EX_DATAERR ? IOTMQ_REJECT : IOTMQ_NACK;
	*reason = *fate == IOTMQ_ACK ? NULL : reason_of(status);
	close(child_fd);
	close(errors);
	return true;
}
